// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel module that crashes the kernel it is inserted into, in the way that its parameter names (src/lab/module.rs).
 *
 * A test's own, built against the headers of the kernel that is to crash, and never part of what rcapture installs.
 * It alone is under the GPL, version 2: the kernel keeps what it needs from modules under other licences.
 */
#include <linux/bug.h>
#include <linux/irq_work.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/panic.h>
#include <linux/sched.h>

static char *kind;
module_param(kind, charp, 0);

/* The compiler is not to know what it points to. */
static int *volatile nowhere;

static noinline void crash_null_dereference(void)
{
	*nowhere = 1;
}

static noinline void crash_bug(void)
{
	BUG();
}

static noinline void crash_panic_with_interrupts_off(void)
{
	local_irq_disable();
	panic("interrupts are off");
}

static void crash_null_dereference_in_interrupt(struct irq_work *work)
{
	*nowhere = 1;
}

static struct irq_work in_interrupt;

static noinline void crash_hung_task(void)
{
	for (;;) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		schedule();
	}
}

/* The compiler is not to know that it has no end. */
static volatile int has_end;

static noinline int crash_stack_overflow(int depth)
{
	volatile char room[256];

	room[0] = depth;
	return has_end ? room[0] : crash_stack_overflow(depth + 1) + room[0];
}

static int __init crash_init(void)
{
	if (!kind)
		return -EINVAL;
	if (!strcmp(kind, "null_dereference"))
		crash_null_dereference();
	if (!strcmp(kind, "bug"))
		crash_bug();
	if (!strcmp(kind, "hung_task"))
		crash_hung_task();
	if (!strcmp(kind, "stack_overflow"))
		crash_stack_overflow(0);
	if (!strcmp(kind, "panic_with_interrupts_off"))
		crash_panic_with_interrupts_off();
	if (!strcmp(kind, "null_dereference_in_interrupt")) {
		init_irq_work(&in_interrupt, crash_null_dereference_in_interrupt);
		irq_work_queue(&in_interrupt);
		/* The interrupt comes at once, or with the next tick; then nothing comes any more. */
		irq_work_sync(&in_interrupt);
	}
	return -EINVAL;
}

module_init(crash_init);
MODULE_DESCRIPTION("crashes the kernel");
MODULE_LICENSE("GPL v2");
