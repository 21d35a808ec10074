//! What a service tells whoever runs it.
//!
//! Sessions go by the beginning of their names: a whole name lets whoever reads it step or close the session.

/// What happens on a server.
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
    /// A client's session has begun.
    Opened {
        /// The beginning of its name.
        session: String,
    },
    /// A token, or a block of them, was computed.
    Stepped {
        /// The beginning of the session's name.
        session: String,
        /// Tokens that the session has now.
        tokens: u32,
        /// Seconds that it took.
        seconds: f64,
    },
    /// A token could not be computed.
    Failed {
        /// The beginning of the session's name.
        session: String,
        /// Why, in words.
        cause: String,
    },
    /// A client has ended its session.
    Closed {
        /// The beginning of its name.
        session: String,
    },
}

/// Whoever hears of it.
pub(super) type Ear = std::sync::Arc<dyn Fn(&Notice) + Send + Sync>;

/// How a session is told of.
pub(super) fn shown(session: &str) -> String {
    session.chars().take(8).collect()
}
