//! Dials over real sockets, to scripted nodes.
