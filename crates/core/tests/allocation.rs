//! A request that succeeds at once must not touch the heap: counted, not believed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use handover_core::{
    Action, BodyLeft, Facts, Order, Outcome, Policy, PolicyParts, Reason, Session, Unlimited, Verdict,
};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "counting allocations needs a global allocator, and its trait is unsafe")]
// SAFETY: every call is passed on unchanged to the system's allocator; the counter needs no allocation itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about the layout is the one that the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, that is from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations this takes.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    run();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn a_request_that_succeeds_at_once_allocates_nothing() {
    let now = Duration::from_millis(1);
    let answer = Outcome::Answered { status: 200, retry_after: None, body: BodyLeft::Whole };
    for &order in Order::ALL {
        let policy = Policy::try_new(PolicyParts { order, ..PolicyParts::default() }).expect("valid");
        let facts = Facts { preferred: Some(2), ..Facts::default() };
        let count = allocations(|| {
            let mut session = Session::new(black_box(&policy), facts, 7);
            let Action::Try { attempt, .. } = session.poll(Duration::ZERO, &5, &mut Unlimited) else {
                panic!("a first attempt")
            };
            let _ = black_box(session.poll(now, &5, &mut Unlimited));
            session.connected(now, attempt);
            let verdict = session.finished(now, attempt, answer, &mut Unlimited);
            assert_eq!(verdict, Verdict::Done(Reason::Answered));
            let _ = black_box(session.poll(now, &5, &mut Unlimited));
            drop(black_box(session.into_record()));
        });
        assert_eq!(count, 0, "{order}");
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
}
