//! Executes Sotto plans.
