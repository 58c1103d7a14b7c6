//! Which endpoint each order takes.

use handover_core::{Action, Facts, Order, Policy, PolicyParts, Session, Unlimited};

use crate::text::{Costs, Tokens, ms, parts, tell_with};

/// The first endpoint that sessions of many seeds take, counted.
fn first_choices(order: Order, facts: Facts, costs: Vec<Option<u64>>) -> Vec<u32> {
    let policy = Policy::try_new(PolicyParts { order, ..parts() }).expect("valid");
    let endpoints = Costs(costs);
    let mut counts = vec![0; endpoints.0.len()];
    for seed in 0..1000 {
        let mut session = Session::new(&policy, facts, seed);
        let Action::Try { endpoint, .. } = session.poll(ms(0), &endpoints, &mut Unlimited) else {
            panic!("a first attempt")
        };
        counts[endpoint as usize] += 1;
    }
    counts
}

#[test]
fn priority_takes_the_first_that_admits_and_the_others_last() {
    tell_with(
        PolicyParts { max_attempts: 4, ..parts() },
        Facts::default(),
        &Costs(vec![None, Some(9), None, Some(1)]),
        Tokens(9),
        "0 poll -> try 1 at 1, connect by 3000
         1 finished 1 refused -> try_next(not_sent)
         1 poll -> try 2 at 3, connect by 3001
         2 finished 2 refused -> try_next(not_sent)
         2 poll -> try 3 at 0, connect by 3002
         3 finished 3 refused -> try_next(not_sent)
         3 poll -> try 4 at 2, connect by 3003",
    );
}

#[test]
fn fastest_takes_the_cheapest_and_the_lower_index_on_a_tie() {
    tell_with(
        PolicyParts { max_attempts: 4, order: Order::Fastest, ..parts() },
        Facts::default(),
        &Costs(vec![Some(5), Some(3), None, Some(3)]),
        Tokens(9),
        "0 poll -> try 1 at 1, connect by 3000
         1 finished 1 refused -> try_next(not_sent)
         1 poll -> try 2 at 3, connect by 3001
         2 finished 2 refused -> try_next(not_sent)
         2 poll -> try 3 at 0, connect by 3002
         3 finished 3 refused -> try_next(not_sent)
         3 poll -> try 4 at 2, connect by 3003",
    );
}

#[test]
fn spread_reaches_all_and_never_the_dearest() {
    let even = first_choices(Order::Spread, Facts::default(), vec![Some(1); 4]);
    assert!(even.iter().all(|&count| (180..320).contains(&count)), "{even:?}");
    let uneven = first_choices(Order::Spread, Facts::default(), vec![Some(1), Some(2), Some(3), Some(9)]);
    assert_eq!(uneven[3], 0, "of any two, the other one is cheaper: {uneven:?}");
    assert!(uneven[0] > uneven[1] && uneven[1] > uneven[2] && uneven[2] > 0, "{uneven:?}");
    let two = first_choices(Order::Spread, Facts::default(), vec![Some(9), Some(1)]);
    assert_eq!(two, [0, 1000], "of two, both are compared: {two:?}");
    let shed = first_choices(Order::Spread, Facts::default(), vec![None, Some(9), None, None]);
    assert_eq!(shed, [0, 1000, 0, 0]);
    let all_shed = first_choices(Order::Spread, Facts::default(), vec![None; 2]);
    assert!(all_shed.iter().all(|&count| count > 0), "one that sheds is better than none: {all_shed:?}");
}

#[test]
fn affine_keeps_to_the_preferred_one_while_it_admits_and_was_not_tried() {
    let facts = |preferred| Facts { preferred, ..Facts::default() };
    assert_eq!(first_choices(Order::Affine, facts(Some(2)), vec![Some(1), Some(1), Some(99)]), [0, 0, 1000]);
    let shed = first_choices(Order::Affine, facts(Some(2)), vec![Some(1), Some(1), None]);
    assert!(shed[0] > 0 && shed[1] > 0 && shed[2] == 0, "{shed:?}");
    for preferred in [None, Some(3), Some(u32::MAX)] {
        let spread = first_choices(Order::Affine, facts(preferred), vec![Some(1); 3]);
        assert!(spread.iter().all(|&count| count > 250), "{spread:?}");
    }
    tell_with(
        PolicyParts { order: Order::Affine, ..parts() },
        facts(Some(1)),
        &Costs(vec![Some(1), Some(1)]),
        Tokens(9),
        "0 poll -> try 1 at 1, connect by 3000
         1 finished 1 refused -> try_next(not_sent)
         1 poll -> try 2 at 0, connect by 3001",
    );
}

#[test]
fn sticky_keeps_to_the_preferred_one_and_goes_on_from_the_first() {
    let facts = |preferred| Facts { preferred, ..Facts::default() };
    assert_eq!(first_choices(Order::Sticky, facts(Some(2)), vec![Some(1), Some(1), Some(99)]), [0, 0, 1000]);
    assert_eq!(first_choices(Order::Sticky, facts(Some(2)), vec![Some(9), Some(1), None]), [1000, 0, 0]);
    for preferred in [None, Some(3), Some(u32::MAX)] {
        assert_eq!(first_choices(Order::Sticky, facts(preferred), vec![Some(9), Some(1), Some(1)]), [1000, 0, 0]);
    }
}
