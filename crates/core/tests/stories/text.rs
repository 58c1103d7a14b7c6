//! Reads and writes the text of the stories.

use std::time::Duration;

use handover_core::{
    Action, BodyLeft, Budget, Endpoints, Facts, Failure, Fault, Outcome, Policy, PolicyParts, Sent, Session, Stage,
    StatusSet, replay,
};

/// The parts that the stories start from: 3 attempts in order of priority, 503 is unwelcome.
pub(crate) fn parts() -> PolicyParts {
    PolicyParts {
        order: handover_core::Order::Priority,
        retry_statuses: StatusSet::from_iter([503]),
        ..PolicyParts::default()
    }
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Reads `answered 503 after 2000 consumed` or `refused at dial sent no consumed`.
pub(crate) fn outcome(text: &str) -> Outcome {
    let words: Vec<_> = text.split_whitespace().collect();
    let body = if words.contains(&"consumed") { BodyLeft::Consumed } else { BodyLeft::Whole };
    let behind = |word| words.iter().position(|other| *other == word).map(|index| words[index + 1]);
    if let Some(status) = behind("answered") {
        let retry_after = behind("after").map(|wait| ms(wait.parse().expect("milliseconds behind `after`")));
        return Outcome::Answered { status: status.parse().expect("a status"), retry_after, body };
    }
    Outcome::Failed(Failure {
        fault: Fault::parse(words[0]).expect("a fault first"),
        stage: behind("at").map_or(Stage::Dial, |stage| Stage::parse(stage).expect("a stage behind `at`")),
        sent: behind("sent").map_or(Sent::No, |sent| Sent::parse(sent).expect("no, maybe or yes behind `sent`")),
        body,
    })
}

/// A budget with so many tokens.
pub(crate) struct Tokens(pub(crate) u32);

impl Budget for Tokens {
    fn try_take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// Endpoints given by their costs; one without a cost does not admit traffic.
pub(crate) struct Costs(pub(crate) Vec<Option<u64>>);

impl Endpoints for Costs {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn cost(&self, index: usize) -> u64 {
        self.0[index].unwrap_or(1)
    }
    fn admits(&self, index: usize) -> bool {
        self.0[index].is_some()
    }
}

/// The endpoints of a story, as far as it has come.
struct Told {
    costs: Vec<Option<u64>>,
    gone: Vec<usize>,
    scopes: Vec<(usize, u32)>,
}

impl Endpoints for Told {
    fn count(&self) -> usize {
        self.costs.len()
    }
    fn cost(&self, index: usize) -> u64 {
        self.costs[index].unwrap_or(1)
    }
    fn admits(&self, index: usize) -> bool {
        self.costs[index].is_some()
    }
    fn is_usable(&self, index: usize) -> bool {
        !self.gone.contains(&index)
    }
    fn scope(&self, index: usize) -> u32 {
        self.scopes.iter().find(|(endpoint, _)| *endpoint == index).map_or(0, |(_, scope)| *scope)
    }
}

fn action(action: Action) -> String {
    let at = |word, at: Option<Duration>| at.map_or(String::new(), |at| format!("{word} {}", at.as_millis()));
    // The time of the head is the deadline's unless an attempt has one of its own.
    let times = |connect_by, head_by: Option<Duration>, deadline| {
        let head_by = at(" head by", head_by.filter(|_| head_by != deadline));
        format!("{}{head_by}{}", at("connect by", Some(connect_by)), at(" until", deadline))
    };
    match action {
        Action::Try { endpoint, attempt, connect_by, head_by, deadline } => {
            format!("try {attempt} at {endpoint}, {}", times(connect_by, head_by, deadline))
        }
        Action::Dial { endpoint, attempt, connect_by, head_by, deadline } => {
            format!("dial {attempt} at {endpoint}, {}", times(connect_by, head_by, deadline))
        }
        Action::Wait { until } => format!("wait until {}", until.as_millis()),
        Action::Await => "await".to_owned(),
        Action::Discover { refresh: false } => "discover".to_owned(),
        Action::Discover { refresh: true } => "discover anew".to_owned(),
        Action::Finish(verdict) => format!("finish {verdict}"),
    }
}

/// Tells a story and checks what the core says in it. Each line: a time in milliseconds, what happens, `->`, what the
/// core says. What happens is `poll`, `connected N`, `finished N OUTCOME`, `discovered yes|no`, `cancelled`,
/// `endpoints N` (there are so many now), `gone N` (that one cannot be used any more), `scope N SCOPE`, and `outcome`,
/// which asks for the decisive attempt and the request's fate.
pub(crate) fn tell(parts: PolicyParts, facts: Facts, endpoints: usize, story: &str) {
    tell_with(parts, facts, &Costs(vec![Some(1); endpoints]), Tokens(u32::MAX), story);
}

/// As [`tell`], with endpoints and a budget of its own.
pub(crate) fn tell_with(parts: PolicyParts, facts: Facts, endpoints: &Costs, mut budget: Tokens, story: &str) {
    let policy = Policy::try_new(parts).expect("the stories' policies are valid");
    let mut endpoints = Told { costs: endpoints.0.clone(), gone: Vec::new(), scopes: Vec::new() };
    let mut session = Session::new(&policy, facts, 7);
    let mut told = Vec::new();
    let lines: Vec<_> = story.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for line in &lines {
        let event = line.split("->").next().unwrap_or_default().trim();
        let (time, what) = event.split_once(' ').expect("a time and an event");
        let now = ms(time.parse().expect("a time in milliseconds"));
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        let (number, outcome_text) = rest.split_once(' ').unwrap_or((rest, ""));
        let said = match verb {
            "poll" => action(session.poll(now, &endpoints, &mut budget)),
            "finished" => {
                let attempt = number.parse().expect("an attempt's number");
                session.finished(now, attempt, outcome(outcome_text), &mut budget).to_string()
            }
            "connected" => {
                session.connected(now, number.parse().expect("an attempt's number"));
                String::new()
            }
            "discovered" => {
                session.discovered(now, number == "yes");
                String::new()
            }
            "endpoints" => {
                endpoints.costs.resize(number.parse().expect("a number of endpoints"), Some(1));
                String::new()
            }
            "gone" => {
                endpoints.gone.push(number.parse().expect("an endpoint"));
                String::new()
            }
            "scope" => {
                let scope = outcome_text.parse().expect("a scope");
                endpoints.scopes.push((number.parse().expect("an endpoint"), scope));
                String::new()
            }
            "outcome" => {
                let decisive = session.record().decisive().map(|attempt| attempt.attempt);
                format!("{} of {}", session.record().fate(), decisive.unwrap_or_default())
            }
            "cancelled" => {
                session.cancelled(now);
                String::new()
            }
            other => panic!("no such event: {other}"),
        };
        told.push(if said.is_empty() { event.to_owned() } else { format!("{event} -> {said}") });
    }
    assert_eq!(told.join("\n"), lines.join("\n"));
    replay(&policy, session.record()).expect("what was told replays");
}
