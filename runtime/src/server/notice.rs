//! What a service tells whoever runs it.

/// What happens with keys that clients send.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A client begins to send its evaluation keys.
    Receiving {
        /// Bytes that it announces.
        bytes: u64,
    },
    /// They have all arrived.
    Received {
        /// Their bytes.
        bytes: u64,
        /// Seconds since the beginning.
        seconds: f64,
    },
    /// They have not.
    Lost {
        /// Why, in words.
        cause: String,
    },
    /// They are read from the disk.
    Loading,
}

/// Whoever hears of it.
pub(super) type Ear = std::sync::Arc<dyn Fn(&Notice) + Send + Sync>;
