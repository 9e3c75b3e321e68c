//! Work on many things by several threads, with the results in the things' order and little memory held.

use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Things a worker has waiting, and results it has ready: enough to never be idle.
const WAITING: usize = 2;

/// Worker threads worth having.
#[must_use]
pub fn workers() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Hands `items` to workers made by `worker`, one per processor, and their results to `sink`, in the items' order.
/// No more than a few items and results per worker are held at any time.
///
/// # Errors
/// The first of `sink`; the rest is then not worked on.
pub fn in_order<T, R, E, W>(
    mut items: impl Iterator<Item = T>,
    worker: impl Fn() -> W,
    mut sink: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E>
where
    T: Send,
    R: Send,
    W: FnMut(T) -> R + Send,
{
    thread::scope(|scope| {
        let lanes: Vec<(SyncSender<T>, Receiver<R>)> = (0..workers())
            .map(|_| {
                let (give, take) = sync_channel::<T>(WAITING);
                let (done, results) = sync_channel(WAITING);
                let mut work = worker();
                scope.spawn(move || {
                    while let Ok(item) = take.recv() {
                        if done.send(work(item)).is_err() {
                            return;
                        }
                    }
                });
                (give, results)
            })
            .collect();
        // Item n goes to lane n modulo the number of lanes, and its result is awaited in that order: no reordering.
        let rounds = lanes.len() * WAITING;
        let mut outstanding = 0;
        let mut giving = lanes.iter().cycle();
        let mut taking = lanes.iter().cycle();
        loop {
            while outstanding < rounds
                && let Some(item) = items.next()
                && let Some((give, _)) = giving.next()
            {
                if give.send(item).is_err() {
                    break;
                }
                outstanding += 1;
            }
            if outstanding == 0 {
                return Ok(());
            }
            // A worker that is gone has panicked: the scope passes that on.
            let Some(result) = taking.next().and_then(|(_, results)| results.recv().ok()) else {
                return Ok(());
            };
            outstanding -= 1;
            sink(result)?;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let mut seen = Vec::new();
        in_order(
            0..200_u64,
            || {
                |item| {
                    thread::sleep(Duration::from_micros((item * 7) % 13 * 20));
                    item * 2
                }
            },
            |result| {
                seen.push(result);
                Ok::<_, ()>(())
            },
        )
        .unwrap();
        assert_eq!(seen, (0..200).map(|item| item * 2).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_ends_the_work() {
        let result = in_order(0.., || |item: u64| item, |item| if item == 10 { Err(item) } else { Ok(()) });
        assert_eq!(result, Err(10));
    }
}
