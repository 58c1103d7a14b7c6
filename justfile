# The recipes of this project. CI runs the same steps: see .ci/run, which needs nothing but bash and cargo.

# What can be done
default:
    @just --list

# Format, lints and the purity of the core
check:
    bash .ci/run format lint purity

# All tests, with the README's own command
test:
    bash .ci/run test

# The benchmarks of single parts; compare runs on one quiet machine only
bench:
    cargo bench -p handover-core --bench session
    cargo bench -p handover-gateway --bench log_writer
    cargo bench -p handover-client --bench overhead

# The documentation of the crates, and the page that is generated from the table of keys
docs:
    bash .ci/run docs
    UPDATE_DOCS=1 cargo test -p handover-gateway the_page_of_the_guide

# Everything that CI checks
ci:
    bash .ci/run
