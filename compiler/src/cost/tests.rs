//! The committed table and interpolation.

use super::model::{Machine, table};
use super::{CostError, CostTable, Curve, OpClass, Prices, Work};
use sotto_ir::params::ParamSet;
use sotto_ir::slot::BootstrapKind;

/// What was measured and what the scheme's algorithms count up to agree: neither has lost touch with the code.
#[test]
fn the_committed_table_agrees_with_the_model() {
    let params = ParamSet::secure_128();
    let modelled = table(&params, &Machine::TWO_CORES).unwrap();
    let committed = CostTable::committed().unwrap();
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
    let table = CostTable::committed().unwrap();
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
        table.seconds(&linear, 8)
            < 22.0 * table.op(OpClass::Rotate, 8) + 128.0 * 2.0 * table.op(OpClass::MulPlain, 8)
    );
}

#[test]
fn curves_interpolate() {
    let curve = Curve(vec![(0, 1.0), (4, 3.0), (8, 3.5)]);
    assert_eq!(
        [0, 2, 4, 6, 8].map(|l| curve.at(l)),
        [1.0, 2.0, 3.0, 3.25, 3.5]
    );
    assert_eq!(curve.at(10), 3.75);
    let table = CostTable::committed().unwrap();
    let seconds = |slots, complex| table.bootstrap(BootstrapKind { slots, complex });
    assert!(seconds(128, false) < seconds(512, false) && seconds(512, false) < seconds(512, true));
    assert!(seconds(32768, true) < 2.0 * seconds(32768, false));
}

#[test]
fn damaged_tables_are_refused() {
    let mut table = CostTable::committed().unwrap();
    table.ops.remove(&OpClass::Mul);
    let text = table.print().unwrap();
    let class = OpClass::Mul;
    let name = table.name.clone();
    assert_eq!(
        CostTable::parse(&text),
        Err(CostError::Curve { table: name, class })
    );
    assert!(matches!(
        CostTable::parse(&text[..200]),
        Err(CostError::Parse(_))
    ));
    let mut table = CostTable::committed().unwrap();
    table.bootstraps.retain(|p| p.kind.complex);
    assert!(matches!(
        CostTable::parse(&table.print().unwrap()),
        Err(CostError::Bootstraps { .. })
    ));
}
