//! What the compiler and the runtime both speak.
