//! RNS-CKKS on 32-bit words: encrypted vectors of complex numbers that can be added, multiplied, rotated and refreshed.
//!
//! # A first computation
//!
//! The test ring of this example is INSECURE; for anything real take [`ParamSet::secure_128`](sotto_params::ParamSet::secure_128), as
//! `examples/vectors.rs` does.
//!
//! ```
//! use sotto_ckks::{Context, Encoder, Evaluator, KeyGenerator, KeyRequest, SecretKey};
//! use sotto_params::{ParamSet, galois};
//!
//! // Whoever owns the data: a secret key, and the keys others need to compute.
//! let ctx = Context::new(ParamSet::insecure_test(10))?;
//! let secret = SecretKey::generate(&ctx)?;
//! let mut request = KeyRequest::default();
//! request.add_relinearization(2);
//! request.add_galois(galois::rotation(1, ctx.params().log_n), 1);
//! let keys = KeyGenerator::new(&secret).evaluation_keys(&request, |_, _| ())?;
//!
//! let encoder = Encoder::new(&ctx);
//! let a = secret.encrypt(&encoder.encode_real(&[1.0, 2.0, 3.0, 4.0], 2, 1)?)?;
//! let b = secret.encrypt(&encoder.encode_real(&[0.5, 0.5, 0.25, 0.25], 2, 1)?)?;
//!
//! // Whoever computes holds context and evaluation keys only.
//! let evaluator = Evaluator::new(&ctx, &keys);
//! let product = evaluator.rescale(&evaluator.mul(&a, &b)?)?;
//! let turned = evaluator.rotate(&product, 1)?;
//!
//! let slots = encoder.decode_periodic(&secret.decrypt(&turned)?, 4)?;
//! for (slot, expected) in slots.iter().zip([1.0, 0.75, 1.0, 0.5]) {
//!     assert!((slot - expected).norm() < 1e-6);
//! }
//! # Ok::<(), sotto_ckks::CkksError>(())
//! ```
//!
//! # Slots, levels, degrees
//!
//! A ciphertext holds N/2 complex *slots*; a shorter vector (any power of two) repeats through them. It has a *level*, which says how many
//! products it can still go through, and a *degree*: 1 for a value, 2 for a product that awaits its [`rescale`](Evaluator::rescale), which
//! takes it to degree 1 one level below. Sums of products are rescaled once. Operands must agree in level and degree: nothing is
//! rescaled or dropped behind the caller's back. Scales follow from level and degree ([`Context::scale`]) and are exact, so there is none to keep
//! track of. Near the bottom only [`Bootstrapper`] helps: from its input level (0 to 3, by the number of slots) it returns the same values at the
//! top app level.
//!
//! Values should stay within about ±1: the modulus at level 0 leaves ten bits above the scale, and bootstrapping takes inputs in [-1, 1].
//!
//! # Errors of a value
//!
//! At secure-128 and a scale of 2^40, one real component of a slot gets an error of standard deviation 2^-30.7 from secret-key encryption,
//! and 2^-26.5 from each of public-key encryption, rescale, level drop and rotation (`examples/noise.rs` measures all of them). A bootstrap
//! adds 2^-26.2 (complex: 2^-25.8) and bends the value by at most 2^-19.1: it returns a scaled sine of it (`examples/bootstrap.rs`).
//!
//! # How a bootstrap is described
//!
//! A [`BootstrapSpec`](sotto_params::bootstrap::BootstrapSpec) is data: how many slots repeat, whether they are complex, the factors of
//! CtS and StC with their baby and giant steps, the degree of EvalMod's polynomial and its double angles, the level it starts from, and with
//! that the keys it needs, each at the level of its use ([`KeyRequest::add_bootstrap`]). [`Bootstrapper`] is such a description with its
//! plaintexts. Its [`sparing`](sotto_params::bootstrap::BootstrapSpec::sparing) form takes fewer keys for more key switches. StC
//! comes first, on the few levels that are left; then ModRaise under a sparse ephemeral secret, so that EvalMod's interval can be
//! short; a refresh goes wrong, visibly, if a coefficient leaves that interval, with a probability that
//! [`failure_log2_probability`](sotto_params::bootstrap::BootstrapSpec::failure_log2_probability) gives: below 2^-55 for a dense one
//! at secure-128, over all its coefficients. [`noise_std`](sotto_params::bootstrap::BootstrapSpec::noise_std) predicts its noise, which tests hold
//! to a factor of 1.4. `SOTTO_SIMD=off` in the environment takes the portable loops; results are the same, residue for residue.
//!
//! # Security
//!
//! [`Context::new`] refuses parameters that the tables of the Security Guidelines for Implementing Homomorphic Encryption (2024) do not bear
//! out at 128 bits, unless the set says it is insecure. What is *not* protected: CKKS decryptions leak the key little by little to
//! whoever sees them together with the ciphertexts (it is not IND-CPA-D secure), so results must not go back to the party that computes; nothing
//! here checks that a computation was done as asked; and evaluation keys for rotations and products assume circular security, as all such
//! schemes do. Secret keys are wiped from memory on drop. Written to take the same time whatever the secret: drawing errors, and arithmetic on
//! residues, transforms included, which has no branch and no index that depends on them. Not so: encoding and decoding (floating point),
//! which bytes a ternary secret's draw rejects (they become no coefficient), and the places of a sparse secret. Nothing has been audited.
//!
//! # Where things are
//!
//! - [`Context`]: parameters with their tables. [`Encoder`]: slots to [`Plaintext`] and back.
//! - [`SecretKey`], [`PublicKey`]: encryption; the former decrypts. [`KeyGenerator`], [`KeyRequest`]: [`EvaluationKeys`], each up to the
//!   level of its use.
//! - [`Evaluator`]: the operations. [`LinearTransform`]: matrices. [`ChebyshevSeries`]: polynomials. [`Bootstrapper`]: refreshing.
//! - [`engine`]: where polynomials lie and what computes on them; everything above is written over it.
//! - [`serialize`]: bytes and files; [`EvaluationKeyFile`] reads keys one at a time. [`Yardstick`]: how fast the machine is now.
//!
//! All work is spread over rayon's threads, limb by limb.

pub mod bootstrap;
pub mod ciphertext;
pub mod context;
pub mod encoding;
pub mod engine;
pub mod error;
pub mod evaluator;
pub mod keys;
pub mod linear;
pub mod poly;
mod ring;
mod sampling;
pub mod serialize;
mod yardstick;

pub use bootstrap::Bootstrapper;
pub use ciphertext::Ciphertext;
pub use context::Context;
pub use encoding::{Encoder, Plaintext};
pub use error::{CkksError, Result};
pub use evaluator::Evaluator;
pub use keys::{
    EvaluationKeys, KeyGenerator, KeyId, KeyKind, KeyRequest, PublicKey, SecretKey, SwitchingKey,
};
pub use linear::LinearTransform;
pub use num_complex::Complex64;
pub use poly::ChebyshevSeries;
pub use serialize::{EvaluationKeyFile, IndexEntry};
pub use yardstick::Yardstick;
