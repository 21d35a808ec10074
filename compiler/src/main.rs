//! `sottoc`: compile a decoder checkpoint to an encrypted plan.

fn main() {}
