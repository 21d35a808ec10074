//! `sotto`: keys, server, client.

fn main() {}
