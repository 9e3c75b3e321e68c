//! Registers for tests: they remember what was written, and a test says what else they do.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Mutex;

use super::Registers;

/// What is read and written, under names that stay with the test.
pub(super) struct Fake<W> {
    state: Arc<Mutex<State<W>>>,
}

pub(super) struct State<W> {
    /// By offset; what is not here reads as the default.
    pub(super) values: BTreeMap<usize, W>,
    /// In their order.
    pub(super) writes: Vec<(usize, W)>,
    /// What a write does to `values`: `None`, it is kept.
    on_write: fn(&mut BTreeMap<usize, W>, usize, W) -> Option<W>,
    on_read: fn(&mut BTreeMap<usize, W>, usize),
}

impl<W> Clone for Fake<W> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

impl<W: Copy + Default> Fake<W> {
    pub(super) fn new(values: &[(usize, W)]) -> Self {
        let state = State {
            values: values.iter().copied().collect(),
            writes: Vec::new(),
            on_write: |_, _, value| Some(value),
            on_read: |_, _| {},
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What is kept of a write; `None`: nothing.
    pub(super) fn on_write(self, on_write: fn(&mut BTreeMap<usize, W>, usize, W) -> Option<W>) -> Self {
        self.state.lock().on_write = on_write;
        self
    }

    /// What a read does, before it.
    pub(super) fn on_read(self, on_read: fn(&mut BTreeMap<usize, W>, usize)) -> Self {
        self.state.lock().on_read = on_read;
        self
    }

    pub(super) fn value(&self, offset: usize) -> W {
        self.state.lock().values.get(&offset).copied().unwrap_or_default()
    }

    pub(super) fn put(&self, offset: usize, value: W) {
        self.state.lock().values.insert(offset, value);
    }

    pub(super) fn writes(&self) -> Vec<(usize, W)> {
        self.state.lock().writes.clone()
    }
}

impl<W: Copy + Default> Registers<W> for Fake<W> {
    fn get(&self, offset: usize) -> W {
        let state = &mut *self.state.lock();
        (state.on_read)(&mut state.values, offset);
        state.values.get(&offset).copied().unwrap_or_default()
    }

    fn set(&mut self, offset: usize, value: W) {
        let state = &mut *self.state.lock();
        state.writes.push((offset, value));
        if let Some(value) = (state.on_write)(&mut state.values, offset, value) {
            state.values.insert(offset, value);
        }
    }
}

/// Waits for so many looks.
pub(super) fn wait(is_done: &mut dyn FnMut() -> bool) -> bool {
    (0..100).any(|_| is_done())
}
