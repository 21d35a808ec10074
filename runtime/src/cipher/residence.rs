//! Where a plan's matrices and KV state lie between their uses.
//!
//! On the processor there is one memory: matrices are kept ready while there is room, and encoded at each use beyond it. A card has
//! memory of its own, and this machine's beside it: matrices lie on the card ready if all of them fit, else by their coefficients, first
//! come first; what is left, and the KV state of the last layers where a session's is too large, lies beside and is fetched at every use.

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

/// What a plan needs where there is too little; whoever asked says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// What must be there without KV state, at the most.
    pub fixed: u64,
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
        let peak = plan.estimate.peak_memory_bytes;
        // the peak is one program's: whichever's, it has no fewer states than the one that has least
        let states = plan.prefill.as_ref().map(|p| p.estimate.state_bytes);
        let least = states.map_or(plan.estimate.state_bytes, |states| {
            states.min(plan.estimate.state_bytes)
        });
        Self {
            peak,
            fixed: peak.saturating_sub(least),
            session: plan.session_bytes(),
            layers: plan.model.layers,
            ready: plan.estimate.plaintext_bytes,
            coefficients: plan.coefficient_bytes(),
            vectors: plan.vector_bytes(),
        }
    }

    /// What is missing where KV state and matrices do not fit here and beside together. They are split by layers and by matrices, so that a
    /// little more than their sum may be needed.
    fn short_of(&self, room: Room, beside: u64) -> Shortage {
        let (state, matrices) = (self.session, self.coefficients);
        let sum = self.fixed.saturating_add(state).saturating_add(matrices);
        let allowed = room.here.saturating_add(beside);
        Shortage {
            needed: sum.max(allowed.saturating_add(1)),
            allowed,
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
        kv_layers: u32::MAX,
        left: 0,
    };

    /// Where everything lies in `room`, with matrices in a form that is told or the one that fits.
    ///
    /// # Errors
    /// If the plan's peak exceeds the room, even with KV state beside, or matrices fit neither here nor beside.
    pub fn within(demand: Demand, room: Room, matrices: Option<Keep>) -> Result<Self, Shortage> {
        let kv = kv_split(demand, room)?;
        let Some(beside) = room.beside else {
            return Ok(Self::ready(demand, kv));
        };
        match matrices {
            Some(Keep::Ready) => return Ok(Self::ready(demand, kv)),
            None if demand.ready <= kv.left => return Ok(Self::ready(demand, kv)),
            _ => {}
        }
        // what does not fit beside must be here; vectors can be encoded anew, but nobody likes to wait for them
        let least = demand.coefficients.saturating_sub(beside - kv.beside);
        if least > kv.left {
            return Err(demand.short_of(room, beside));
        }
        let matrix_bytes = match matrices {
            Some(Keep::Beside) => least,
            _ => {
                let behind_vectors = kv.left.saturating_sub(demand.vectors);
                demand.coefficients.min(behind_vectors.max(least))
            }
        };
        let vectors = demand.vectors.min(kv.left - matrix_bytes);
        Ok(Self {
            matrices: Keep::Compact,
            cache_bytes: vectors + matrix_bytes,
            matrix_bytes,
            kv_layers: kv.layers,
            left: kv.left - vectors - matrix_bytes,
        })
    }

    /// With matrices ready, as many as fit.
    fn ready(demand: Demand, kv: KvSplit) -> Self {
        let cache_bytes = demand.ready.min(kv.left);
        Self {
            matrices: Keep::Ready,
            cache_bytes,
            matrix_bytes: 0,
            kv_layers: kv.layers,
            left: kv.left - cache_bytes,
        }
    }
}

/// How KV state lies.
#[derive(Clone, Copy)]
struct KvSplit {
    /// The first layers, so many, have it where the engine computes.
    layers: u32,
    /// Bytes of the others', beside.
    beside: u64,
    /// Bytes that are left where the engine computes.
    left: u64,
}

/// Splits a session's KV state: all of it here if the peak fits, else as many layers as leave room for the vectors, or more where there
/// is too little beside.
fn kv_split(demand: Demand, room: Room) -> Result<KvSplit, Shortage> {
    let Demand { peak, fixed, .. } = demand;
    if peak <= room.here {
        return Ok(KvSplit {
            layers: u32::MAX,
            beside: 0,
            left: room.here - peak,
        });
    }
    let here_alone = |needed| Shortage {
        needed,
        allowed: room.here,
    };
    let Some(beside) = room.beside else {
        return Err(here_alone(peak));
    };
    let free = room.here.checked_sub(fixed).ok_or(here_alone(fixed))?;
    let layers = u64::from(demand.layers.max(1));
    let each = demand.session.div_ceil(layers).max(1);
    let least = layers.saturating_sub(beside / each);
    if least > free / each {
        return Err(demand.short_of(room, beside));
    }
    let behind_vectors = free.saturating_sub(demand.vectors) / each;
    let here = behind_vectors.max(least).min(layers);
    Ok(KvSplit {
        layers: here as u32,
        beside: (layers - here) * each,
        left: free - here * each,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 40 of what must be there are KV state of four layers.
    const DEMAND: Demand = Demand {
        peak: 100,
        fixed: 60,
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
            (r.matrices, r.cache_bytes, r.matrix_bytes, r.left)
        };
        assert_eq!(within(150, None), (Keep::Ready, 50, 0, 0));
        assert_eq!(within(149, None), (Keep::Compact, 12, 10, 37));
        assert_eq!(
            within(150, Some(Keep::Compact)),
            (Keep::Compact, 12, 10, 38)
        );
        assert_eq!(within(120, Some(Keep::Ready)), (Keep::Ready, 20, 0, 0));
        // vectors come first, since nobody expands them
        assert_eq!(within(106, None), (Keep::Compact, 6, 4, 0));
        assert_eq!(within(101, None), (Keep::Compact, 1, 0, 0));
        assert_eq!(within(150, Some(Keep::Beside)), (Keep::Compact, 2, 0, 48));
        // what beside has no room for is here before vectors are, and what neither has room for is refused
        let poor = |here, beside| {
            let beside = Some(beside);
            let found = Residence::within(DEMAND, Room { here, beside }, None);
            found.map(|r| (r.cache_bytes, r.matrix_bytes))
        };
        assert_eq!(poor(106, 5), Ok((6, 5)));
        assert_eq!(poor(106, 4), Ok((6, 6)));
        let short = |needed, allowed| Err(Shortage { needed, allowed });
        assert_eq!(poor(106, 3), short(110, 109));
    }

    #[test]
    fn kv_state_of_the_last_layers_goes_beside_before_a_plan_is_refused() {
        let within = |here, beside| {
            let beside = Some(beside);
            Residence::within(DEMAND, Room { here, beside }, None)
        };
        let found = |here, beside| within(here, beside).map(|r| (r.kv_layers, r.cache_bytes));
        assert_eq!(found(100, 10), Ok((u32::MAX, 0)));
        // the vectors stay, and what is left is for matrices
        assert_eq!(found(99, 20), Ok((3, 9)));
        assert_eq!(found(92, 20), Ok((3, 2)));
        assert_eq!(found(91, 30), Ok((2, 11)));
        assert_eq!(found(60, 1000), Ok((0, 0)));
        // unless there is too little beside
        assert_eq!(found(71, 40), Ok((0, 11)));
        assert_eq!(found(71, 39), Ok((1, 1)));
        assert_eq!(found(91, 20), Ok((2, 11)));
        assert_eq!(found(91, 19), Ok((3, 1)));
        let short = |needed, allowed| Err(Shortage { needed, allowed });
        assert_eq!(found(59, 1000), short(60, 59));
        assert_eq!(found(71, 29), short(110, 100));
        assert_eq!(found(99, 10), short(110, 109));
        // three layers here leave nothing for matrices, which have no place beside
        assert_eq!(found(90, 15), short(110, 105));
    }

    #[test]
    fn the_larger_of_two_programs_has_no_fewer_states_than_the_least() {
        // one program needs 90 of which 20 are states, the other 100 of which 70 are: without states up to 70 must be there
        let demand = Demand {
            peak: 100,
            fixed: 80,
            session: 70,
            layers: 7,
            ..DEMAND
        };
        let room = Room {
            here: 90,
            beside: Some(1000),
        };
        let found = Residence::within(demand, room, None).unwrap();
        assert_eq!((found.kv_layers, found.cache_bytes), (0, 10));
    }
}
