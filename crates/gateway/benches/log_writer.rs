//! What a row of the request log costs in CPU time of the whole process: encoding, hand-over, writer thread and SQLite.
//!
//! The times criterion reports are CPU time, not wall time; making the rows is taken off. Run it with
//! `cargo bench -p handover-gateway --bench log_writer`. `HANDOVER_BENCH_DIR` says where the database is put.

#[path = "../tests/log/rows.rs"]
#[allow(dead_code, reason = "shared by tests and benchmarks, each of which uses its part")]
mod rows;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use handover_gateway::log::{IdSource, LogSender, LogSettings, RequestLog, Row};
use rows::NEW_YEAR;
use rustix::time::{ClockId, clock_gettime};

/// Rows between two looks at the queue.
const ROUND: u64 = 256;
/// The time between two requests at 50,000 a second, in nanoseconds.
const PACE_NS: u64 = 20_000;

/// CPU time of this process so far, all threads.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A log, and a worker that pushes into it.
struct Bench {
    log: RequestLog,
    sender: LogSender,
    ids: IdSource,
    now_ns: u64,
    row: Row,
}

impl Bench {
    fn new(dir: &Path, retention_bytes: u64, row: Row) -> Self {
        let settings = LogSettings { retention_age: Duration::MAX, retention_bytes, ..LogSettings::default() };
        let log = RequestLog::start(dir, settings).expect("the directory is writable");
        let sender = log.sender();
        Self { log, sender, ids: IdSource::new(0), now_ns: NEW_YEAR, row }
    }

    fn next(&mut self) -> Row {
        self.now_ns += PACE_NS;
        Row { id: self.ids.next(self.now_ns), ..self.row.clone() }
    }

    /// CPU time of `count` rows.
    fn run(&mut self, count: u64) -> Duration {
        let begin = cpu();
        for _ in 0..count {
            black_box(self.next());
        }
        let making = cpu() - begin;
        let begin = cpu();
        for number in 0..count {
            let row = self.next();
            self.sender.push(row);
            // The queue must neither overflow nor be waited for at each row.
            if number % ROUND == 0 && self.log.stats().queue_rows > 20_000 {
                self.log.settle(Duration::from_secs(60));
            }
        }
        self.sender.flush();
        self.log.settle(Duration::from_secs(60));
        (cpu() - begin).saturating_sub(making)
    }
}

fn cost_of_a_row(criterion: &mut Criterion) {
    let policy = rows::policy();
    let dir =
        tempfile::tempdir_in(std::env::var_os("HANDOVER_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from));
    let dir = dir.expect("there is a directory");
    let cases = [
        ("one_attempt", 1 << 40, rows::ok(NEW_YEAR, &policy)),
        ("two_attempts", 1 << 40, rows::failed_over(NEW_YEAR, &policy)),
        ("one_attempt_at_the_size_limit", 32 << 20, rows::ok(NEW_YEAR, &policy)),
    ];
    let mut group = criterion.benchmark_group("log_row_cpu");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for (name, retention_bytes, row) in cases {
        let mut bench = Bench::new(&dir.path().join(name), retention_bytes, row);
        group.bench_function(name, |bencher| bencher.iter_custom(|count| bench.run(count)));
        let stats = bench.log.stats();
        assert_eq!((stats.dropped_queue_full, stats.dropped_disk), (0, 0), "rows that were dropped cost nothing");
    }
    group.finish();
}

criterion_group!(benches, cost_of_a_row);
criterion_main!(benches);
