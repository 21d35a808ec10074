//! The Sotto compiler.
