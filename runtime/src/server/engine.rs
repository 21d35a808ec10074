//! What the service needs of a loaded plan, whatever stands for a ciphertext.

use crate::StepProgress;
use crate::keys::NeededKey;
use crate::proto::Fault;
use std::path::Path;

/// Receives progress of a step and says whether anybody still waits for it.
pub trait Watch: Sync {
    /// Called between instructions: must be quick.
    fn progress(&self, progress: &StepProgress);
    /// Whether the step should stop: nobody waits for its result.
    fn cancelled(&self) -> bool;
}

/// What a step computed.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOutput {
    /// The output ciphertexts, serialized, in the plan's order; one unless the vocabulary exceeds the slots.
    pub ciphertexts: Vec<Vec<u8>>,
    /// Bootstraps run.
    pub bootstraps: u32,
}

/// A plan that is ready to run for sessions. An engine holds no secret: it sees evaluation keys and ciphertexts.
pub trait Engine: Send + Sync + 'static {
    /// Evaluation keys, loaded.
    type Keys: Send + Sync + 'static;
    /// The KV state of one session.
    type State: Send + 'static;

    /// Digest of the plan.
    fn plan_digest(&self) -> &str;
    /// Digest of the parameter set.
    fn parameters_digest(&self) -> &str;
    /// Most tokens of a session.
    fn capacity(&self) -> u32;
    /// Keys that the plan needs.
    fn needed_keys(&self) -> &[NeededKey];
    /// Bytes of a key file that holds exactly [`Engine::needed_keys`].
    fn key_bytes(&self) -> u64;
    /// Most sessions whose KV state memory is for; at least one.
    fn most_sessions(&self) -> usize;
    /// Loads evaluation keys from a folder whose manifest covers [`Engine::needed_keys`].
    /// `progress` hears how many are loaded and how many there are.
    fn load_keys(
        &self,
        dir: &Path,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self::Keys, Fault>;
    /// The state before the first token.
    fn empty_state(&self) -> Self::State;
    /// Runs the next token, or `block` tokens of a prompt if that is not 0, changing `state` on success only.
    fn step(
        &self,
        keys: &Self::Keys,
        state: &mut Self::State,
        block: u32,
        ciphertext: &[u8],
        watch: &dyn Watch,
    ) -> Result<StepOutput, Fault>;
}
