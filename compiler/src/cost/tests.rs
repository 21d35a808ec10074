//! The committed table and interpolation.

use super::model::{Machine, table};
use super::{Prices, Work, committed, seconds};
use sotto_ir::cost::{CostTable, OpClass};
use sotto_ir::params::ParamSet;
use sotto_ir::slot::BootstrapKind;

/// What was measured and what the scheme's algorithms count up to agree: neither has lost touch with the code.
#[test]
fn the_committed_table_agrees_with_the_model() {
    let params = ParamSet::secure_128();
    let modelled = table(&params, &Machine::TWO_CORES).unwrap();
    let committed = committed().unwrap();
    assert_eq!(
        (committed.log_n, committed.threads),
        (params.log_n, Machine::TWO_CORES.threads)
    );
    assert_eq!(
        CostTable::parse(&committed.print().unwrap()).unwrap(),
        committed
    );
    let check = |what: &str, measured: f64, counted: f64| {
        let ratio = measured / counted;
        assert!(
            (0.4..2.5).contains(&ratio),
            "{what}: {measured} s measured, {counted} s counted"
        );
    };
    for class in [
        OpClass::Mul,
        OpClass::Rotate,
        OpClass::Rescale,
        OpClass::LinearBase,
        OpClass::GiantStep,
    ] {
        for level in [1, 7, 8, 16] {
            check(
                &format!("{class:?} {level}"),
                committed.op(class, level),
                modelled.op(class, level),
            );
        }
    }
    for (slots, complex) in [
        (1, false),
        (128, false),
        (128, true),
        (32768, false),
        (32768, true),
    ] {
        let kind = BootstrapKind { slots, complex };
        check(
            &format!("{kind:?}"),
            committed.bootstrap(kind),
            modelled.bootstrap(kind),
        );
    }
}

#[test]
fn prices_rise_with_the_level() {
    let table = committed().unwrap();
    for class in OpClass::ALL {
        for level in 1..=16 {
            let (low, high) = (table.op(class, level - 1), table.op(class, level));
            assert!(low <= high, "{class:?} {level}: {low} {high}");
        }
    }
    let linear = Work::Linear {
        diagonals: 128,
        baby: 16,
    };
    assert!(table.nanos(&linear, 16) > 2 * table.nanos(&linear, 1));
    // Hoisting pays: a matrix costs less than its rotations one by one.
    assert!(
        seconds(&table, &linear, 8)
            < 22.0 * table.op(OpClass::Rotate, 8) + 128.0 * 2.0 * table.op(OpClass::MulPlain, 8)
    );
}
