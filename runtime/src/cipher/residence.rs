//! Where a plan's matrices and KV state lie between their uses.
//!
//! On the processor there is one memory: matrices are kept ready while there is room, and encoded at each use beyond it. A card has
//! memory of its own, and this machine's beside it: matrices lie on the card ready if all of them fit, else by their coefficients, first
//! come first; what is left, and the KV state of the last layers where a session's is too large, lies beside and is fetched at every use.

use miette::Diagnostic;
use sotto_ckks::engine::Keep;
use sotto_ir::plan::Plan;

/// Memory that a plan may count on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Where the engine computes.
    pub here: u64,
    /// Beside it, for an engine with memory of its own.
    pub beside: Option<u64>,
}

impl Room {
    /// One memory of so many bytes.
    pub fn one(here: u64) -> Self {
        Self { here, beside: None }
    }
}

/// A plan needs more memory than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Diagnostic)]
#[error("the plan needs {needed} bytes at its peak and {allowed} are there")]
#[diagnostic(
    code(cipher::memory),
    help("compile with a smaller --context or --memory")
)]
pub struct Shortage {
    /// Bytes that must be there.
    pub needed: u64,
    /// Bytes that are.
    pub allowed: u64,
}

/// What a plan asks for, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// What must be there, one session's KV state included.
    pub peak: u64,
    /// KV state of a session.
    pub session: u64,
    /// Layers that it is of.
    pub layers: u32,
    /// All matrices and vectors, ready.
    pub ready: u64,
    /// All matrices by their coefficients.
    pub coefficients: u64,
    /// All vectors.
    pub vectors: u64,
}

impl Demand {
    /// What a checked plan asks for.
    pub fn of(plan: &Plan) -> Self {
        Self {
            peak: plan.estimate.peak_memory_bytes,
            session: plan.session_bytes(),
            layers: plan.model.layers,
            ready: plan.estimate.plaintext_bytes,
            coefficients: plan.coefficient_bytes(),
            vectors: plan.vector_bytes(),
        }
    }
}

/// Where a plan's matrices and KV state lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residence {
    /// How matrices lie where the engine computes: ready, or by their coefficients.
    pub matrices: Keep,
    /// Bytes there for matrices and vectors.
    pub cache_bytes: u64,
    /// Bytes of those for matrices by their coefficients.
    pub matrix_bytes: u64,
    /// Bytes beside for matrices that come after those.
    pub beside_bytes: u64,
    /// The first layers, so many, have their KV state where the engine computes; the others beside.
    pub kv_layers: u32,
    /// Bytes where the engine computes that are left, for further sessions.
    pub left: u64,
}

impl Residence {
    /// Where everything lies if there is room without end.
    pub const READY: Self = Self {
        matrices: Keep::Ready,
        cache_bytes: u64::MAX,
        matrix_bytes: 0,
        beside_bytes: 0,
        kv_layers: u32::MAX,
        left: 0,
    };

    /// Where everything lies in `room`, with matrices in a form that is told or the one that fits.
    ///
    /// # Errors
    /// If the plan's peak exceeds the room, even with KV state beside.
    pub fn within(demand: Demand, room: Room, matrices: Option<Keep>) -> Result<Self, Shortage> {
        let (kv_layers, kv_beside) = match demand.peak <= room.here {
            true => (u32::MAX, 0),
            false => kv_split(demand, room)?,
        };
        let left = room.here.saturating_sub(demand.peak);
        let ready = |cache_bytes| Self {
            matrices: Keep::Ready,
            cache_bytes,
            matrix_bytes: 0,
            beside_bytes: 0,
            kv_layers,
            left: left - cache_bytes,
        };
        let Some(beside) = room.beside else {
            return Ok(ready(demand.ready.min(left)));
        };
        match matrices {
            Some(Keep::Ready) => return Ok(ready(demand.ready.min(left))),
            None if demand.ready <= left => return Ok(ready(demand.ready)),
            _ => {}
        }
        let matrices = matrices.unwrap_or(Keep::Compact);
        let vectors = demand.vectors.min(left);
        let matrix_bytes = match matrices {
            Keep::Beside => 0,
            _ => demand.coefficients.min(left - vectors),
        };
        Ok(Self {
            matrices: Keep::Compact,
            cache_bytes: vectors + matrix_bytes,
            matrix_bytes,
            beside_bytes: (demand.coefficients - matrix_bytes).min(beside - kv_beside),
            kv_layers,
            left: left - vectors - matrix_bytes,
        })
    }
}

/// How many layers have their KV state where the engine computes, and the bytes of the others', which must fit beside.
fn kv_split(demand: Demand, room: Room) -> Result<(u32, u64), Shortage> {
    let Demand { peak, session, .. } = demand;
    let fixed = peak.saturating_sub(session);
    let short = |needed, allowed| Err(Shortage { needed, allowed });
    let Some(beside) = room.beside else {
        return short(peak, room.here);
    };
    if fixed > room.here {
        return short(fixed, room.here);
    }
    let layers = demand.layers.max(1);
    let each = session.div_ceil(layers.into()).max(1);
    let here = ((room.here - fixed) / each).min(layers.into());
    let away = (u64::from(layers) - here) * each;
    match away <= beside {
        true => Ok((here as u32, away)),
        false => short(peak, room.here.saturating_add(beside)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 40 of what must be there are KV state of four layers.
    const DEMAND: Demand = Demand {
        peak: 100,
        session: 40,
        layers: 4,
        ready: 50,
        coefficients: 10,
        vectors: 2,
    };

    #[test]
    fn one_memory_keeps_ready_what_fits_and_refuses_less_than_the_peak() {
        let within = |here| Residence::within(DEMAND, Room::one(here), None);
        let found = |here| within(here).map(|r| (r.matrices, r.cache_bytes, r.left));
        assert_eq!(found(170), Ok((Keep::Ready, 50, 20)));
        assert_eq!(found(110), Ok((Keep::Ready, 10, 0)));
        assert_eq!(within(110).unwrap().kv_layers, u32::MAX);
        assert_eq!(within(110).unwrap().beside_bytes, 0);
        let short = Shortage {
            needed: 100,
            allowed: 99,
        };
        assert_eq!(within(99), Err(short));
    }

    #[test]
    fn a_card_keeps_matrices_ready_or_small_or_beside() {
        let within = |here, keep| {
            let beside = Some(1000);
            let r = Residence::within(DEMAND, Room { here, beside }, keep).unwrap();
            (r.matrices, r.cache_bytes, r.beside_bytes, r.left)
        };
        assert_eq!(within(150, None), (Keep::Ready, 50, 0, 0));
        assert_eq!(within(149, None), (Keep::Compact, 12, 0, 37));
        assert_eq!(within(150, Some(Keep::Compact)), (Keep::Compact, 12, 0, 38));
        assert_eq!(within(120, Some(Keep::Ready)), (Keep::Ready, 20, 0, 0));
        // vectors come first, since nobody expands them
        assert_eq!(within(106, None), (Keep::Compact, 6, 6, 0));
        assert_eq!(within(101, None), (Keep::Compact, 1, 10, 0));
        assert_eq!(within(150, Some(Keep::Beside)), (Keep::Compact, 2, 10, 48));
        // what neither has room for is encoded at every use
        let poor = Room {
            here: 106,
            beside: Some(5),
        };
        assert_eq!(
            Residence::within(DEMAND, poor, None).unwrap().beside_bytes,
            5
        );
    }

    #[test]
    fn kv_state_of_the_last_layers_goes_beside_before_a_plan_is_refused() {
        let within = |here, beside| {
            let beside = Some(beside);
            Residence::within(DEMAND, Room { here, beside }, None)
        };
        let layers = |here, beside| within(here, beside).unwrap().kv_layers;
        assert_eq!(layers(100, 0), u32::MAX);
        assert_eq!(layers(99, 10), 3);
        assert_eq!(layers(71, 30), 1);
        assert_eq!(layers(60, 1000), 0);
        // it comes before matrices
        assert_eq!(within(99, 13).unwrap().beside_bytes, 3);
        let short = |needed, allowed| Err(Shortage { needed, allowed });
        assert_eq!(within(59, 1000), short(60, 59));
        assert_eq!(within(71, 29), short(100, 100));
    }
}
