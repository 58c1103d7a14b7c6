//! A socket that goes to the next server with its work.

mod engineio;
mod frame;
mod socketio;
