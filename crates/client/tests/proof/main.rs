//! What is proven of a request: never executed twice, never lost when it was not sent, never sent after it was given up.

mod cuts;
mod duplicates;
mod early;
mod h2;
mod late;
mod races;

use handover_client::{Client, ClientBuilder, Policy};

/// A client under rotation that asks no proxy.
fn rotation<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
    Client::builder().endpoints(endpoints).policy(Policy::rotation()).no_proxy()
}
