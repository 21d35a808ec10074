//! The prime chain of the shipped parameter sets: literal primes and the level table over them.
//!
//! All primes are below 2^30 (the fast path of the NTT) and ≡ 1 mod 2^17, so the same chain serves every ring up to N = 2^16.

use crate::set::{Ephemeral, Level, LevelKind, ParamSet, SecretKind};

/// Main primes. The first is chosen so that, with the terminal prime 1179649, level 0 has a modulus of 2^50 (to 2^-12 bits).
const MAINS: [u32; 23] = [
    954335233, 1045430273, 1043464193, 1042415617, 1040842753, 1040056321, 1038745601, 1037303809,
    1036779521, 1034813441, 1032192001, 1031667713, 1030619137, 1029308417, 1026686977, 1026162689,
    1023148033, 1021444097, 1019609089, 1019478017, 1018429441, 1016463361, 1015283713,
];

/// Terminal primes, 19.6 and 20.2 bits: they let a level step by 40 bits although main primes have 30.
const TERMINALS: [u32; 2] = [786433, 1179649];

/// Primes of the EvalMod levels in pairs, each pair's product within 7e-4 bits of 2^58.
const EVALMOD: [u32; 16] = [
    537133057, 536608769, 553254913, 521011201, 547749889, 526123009, 541327361, 532283393,
    557187073, 517472257, 555220993, 518914049, 548012033, 525729793, 540540929, 533463041,
];

/// Primes of the CtS levels, in pairs.
const CTS: [u32; 6] = [
    1054212097, 1053818881, 1052508161, 1051721729, 1049100289, 1048707073,
];

/// Key-switching primes: the largest of all, so that their product exceeds that of any digit.
const SPECIAL: [u32; 12] = [
    1073479681, 1071513601, 1070727169, 1068236801, 1065484289, 1064697857, 1062862849, 1062469633,
    1060765697, 1056440321, 1056178177, 1055260673,
];

/// How many main and terminal primes an app level has: 50 + 40ℓ bits.
const APP_LEVELS: [(usize, usize); 17] = [
    (1, 1),
    (3, 0),
    (3, 2),
    (5, 1),
    (7, 0),
    (7, 2),
    (9, 1),
    (11, 0),
    (11, 2),
    (13, 1),
    (15, 0),
    (15, 2),
    (17, 1),
    (19, 0),
    (19, 2),
    (21, 1),
    (23, 0),
];

/// Main primes of the first key-switching digit, which also holds the terminals.
const FIRST_DIGIT_MAINS: usize = 12;
/// Highest app level whose primes all lie in the first digit.
const SINGLE_DIGIT_TOP: usize = 7;
/// Main primes of the first digit above that level, as long as the second digit has room: ten leave room for both terminals, so no
/// digit ever outgrows the special primes and two digits are enough up to the top app level.
const FIRST_DIGIT_BASE: usize = 10;

/// log2 of the scale at level 0.
const LOG_BASE_SCALE: i32 = 40;

/// Indices of an app level's primes: mains of the first digit, mains of the second, terminals.
fn app_level_primes(level: usize) -> Vec<u16> {
    let (mains, terminals) = APP_LEVELS[level];
    let first = if level <= SINGLE_DIGIT_TOP {
        mains
    } else {
        (mains.saturating_sub(MAINS.len() - FIRST_DIGIT_MAINS)).max(FIRST_DIGIT_BASE)
    };
    let mut primes: Vec<u16> = (0..first as u16).collect();
    primes.extend((0..(mains - first) as u16).map(|i| FIRST_DIGIT_MAINS as u16 + i));
    let t = MAINS.len() as u16;
    match terminals {
        1 => primes.push(t + 1),
        2 => primes.extend([t, t + 1]),
        _ => {}
    }
    primes
}

fn chain(name: String, log_n: u32, insecure: bool) -> ParamSet {
    let q_primes: Vec<u32> = [&MAINS[..], &TERMINALS, &EVALMOD, &CTS].concat();
    let (mains, terminals) = (MAINS.len() as u16, TERMINALS.len() as u16);
    let evalmod = mains + terminals;
    let all = q_primes.len() as u16;

    let mut primes: Vec<Vec<u16>> = (0..APP_LEVELS.len()).map(app_level_primes).collect();
    let mut kinds = vec![LevelKind::App; primes.len()];
    let upper = EVALMOD.len() / 2 + CTS.len() / 2;
    for pair in 0..upper as u16 {
        let mut level = primes[primes.len() - 1].clone();
        level.extend([evalmod + 2 * pair, evalmod + 2 * pair + 1]);
        primes.push(level);
        kinds.push(if usize::from(pair) < EVALMOD.len() / 2 {
            LevelKind::EvalMod
        } else {
            LevelKind::CtS
        });
    }

    let digits = vec![
        (0..FIRST_DIGIT_MAINS as u16)
            .chain(mains..mains + terminals)
            .collect(),
        (FIRST_DIGIT_MAINS as u16..mains).collect(),
        (evalmod..evalmod + 12).collect(),
        (evalmod + 12..all).collect(),
    ];
    let mut set = ParamSet {
        name,
        log_n,
        q_primes,
        p_primes: SPECIAL.to_vec(),
        levels: primes
            .into_iter()
            .zip(kinds)
            .map(|(primes, kind)| Level {
                primes,
                scale: 0.0,
                kind,
            })
            .collect(),
        digits,
        secret: SecretKind::UniformTernary,
        ephemeral: Some(Ephemeral {
            h: 32,
            p_primes: SPECIAL[..2].to_vec(),
        }),
        error_std: 3.2,
        insecure,
    };
    set.fill_scales(f64::from(LOG_BASE_SCALE).exp2());
    set
}

impl ParamSet {
    /// The set `secure-128`: N = 2^16, uniform ternary secret, log QP 1732, bootstrapping at 2^15 slots.
    pub fn secure_128() -> Self {
        chain("secure-128".into(), 16, false)
    }

    /// The same chain (levels, scales, digits) on a small ring of degree 2^`log_n`, for tests. INSECURE: keys of this set hide nothing.
    ///
    /// # Panics
    /// If `log_n` is outside 9..=14: a test asked for a ring that is not a test ring.
    pub fn insecure_test(log_n: u32) -> Self {
        assert!(
            (9..=14).contains(&log_n),
            "INSECURE test rings have log_n in 9..=14, not {log_n}"
        );
        chain(format!("INSECURE-{log_n}"), log_n, true)
    }
}
