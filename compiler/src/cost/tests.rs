//! The committed table and interpolation.

use super::model::{Machine, table};
use super::{CostError, CostTable, Curve, OpClass, Prices, Work};
use sotto_ir::params::ParamSet;
use sotto_ir::slot::BootstrapKind;

/// Writes `default.ron` anew when the environment says so, else holds it equal to what its origin states.
#[test]
fn committed_table_is_what_it_says() {
    let modelled = table(&ParamSet::secure_128(), &Machine::TWO_CORES).unwrap();
    if std::env::var_os("SOTTO_WRITE_COST_TABLE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cost/default.ron");
        std::fs::write(path, modelled.print().unwrap()).unwrap();
        return;
    }
    let committed = CostTable::committed().unwrap();
    assert_eq!(
        committed, modelled,
        "run with SOTTO_WRITE_COST_TABLE=1 to write it anew"
    );
    assert_eq!(
        CostTable::parse(&committed.print().unwrap()).unwrap(),
        committed
    );
    assert_eq!(committed.digest().unwrap().len(), 64);
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
