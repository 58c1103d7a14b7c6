//! HTTP/2 against peers that refuse, leave, stop reading and die, over real sockets on loopback.

mod cancel;
mod flow;
mod goaway;
mod kit;
mod late;
mod lost;
