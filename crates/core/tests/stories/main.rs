//! Decisions and sessions as text: what happened on the left, what the core said on the right.

mod decide;
mod orders;
mod presets;
mod races;
mod scopes;
mod session;
mod text;
mod words;
