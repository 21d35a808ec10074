//! Polynomial plans against Clenshaw, for every degree, and their depths and counts.

use sotto_params::poly::{
    DepthOps, Node, Parity, PolyError, PolyPlan, basis_depth, clenshaw, depth, interpolate,
};

const PARITIES: [Parity; 4] = [
    Parity::Mixed,
    Parity::Even,
    Parity::Odd,
    Parity::EvenAndLinear,
];

fn coefficients(degree: usize, parity: Parity) -> Vec<f64> {
    (0..=degree)
        .map(|i| {
            if parity.allows(i) {
                ((i * 7919 + 13) % 101) as f64 / 50.0 - 1.0
            } else {
                0.0
            }
        })
        .collect()
}

fn total(plan: &PolyPlan, f: fn(&DepthOps) -> usize) -> usize {
    plan.operations().iter().map(f).sum()
}

#[test]
fn every_degree_and_parity_equals_clenshaw() {
    for degree in 1..=127 {
        for parity in PARITIES {
            let plan = PolyPlan::new(degree, parity).expect("a plan");
            let c = coefficients(degree, parity);
            for k in 0..=20 {
                let x = f64::from(k) / 10.0 - 1.0;
                let (got, want) = (plan.interpret(&c, x).expect("fits"), clenshaw(&c, x));
                assert!(
                    (got - want).abs() < 1e-10,
                    "degree {degree} {parity:?} at {x}: {got} against {want}"
                );
            }
        }
    }
}

/// Every operand must be there by the depth it is used at, and the result must come out at the least depth.
fn check_depths(node: &Node, due: usize, degree: usize) {
    assert!(
        node.at < due && node.terms_at <= node.at,
        "degree {degree}: {node:?}"
    );
    assert!(
        node.terms.iter().all(|&i| basis_depth(i) <= node.terms_at),
        "degree {degree}: {node:?}"
    );
    for product in &node.products {
        assert!(
            basis_depth(product.giant) <= node.at,
            "degree {degree}: giant {} at {}",
            product.giant,
            node.at
        );
        check_depths(&product.quotient, node.at, degree);
    }
}

#[test]
fn depth_is_least_and_holds_everywhere() {
    assert_eq!(
        [1, 2, 3, 4, 7, 8, 31, 32, 127].map(depth),
        [1, 2, 2, 3, 3, 4, 5, 6, 7]
    );
    for degree in 1..=127 {
        for parity in PARITIES {
            let plan = PolyPlan::new(degree, parity).expect("a plan");
            assert_eq!(plan.depth, depth(degree));
            assert!(plan.root.at < plan.depth);
            check_depths(&plan.root, plan.depth, degree);
            for step in &plan.basis {
                for operand in [step.left, step.right] {
                    assert!(basis_depth(operand) <= step.at);
                    assert!(operand == 1 || plan.basis.iter().any(|s| s.index == operand));
                }
                assert_eq!(basis_depth(step.index), step.at + 1);
            }
        }
    }
}

#[test]
fn relinearisation_counts() {
    let count = |degree, parity| {
        total(&PolyPlan::new(degree, parity).expect("a plan"), |o| {
            o.relinearisations
        })
    };
    // Five squarings and products for the basis, then two nodes or three: what EvalMod pays.
    assert_eq!(count(28, Parity::Even), 7);
    assert_eq!(count(30, Parity::Even), 8);
    // a linear term beside an even series adds none
    for degree in 2..=255 {
        let (even, with) = (Parity::Even, Parity::EvenAndLinear);
        assert_eq!(count(degree, even), count(degree, with), "degree {degree}");
    }
    assert!(count(31, Parity::Mixed) <= 10);
    assert!(count(31, Parity::Odd) <= count(31, Parity::Mixed));
    assert!(count(127, Parity::Mixed) <= 20);
    assert_eq!(count(1, Parity::Mixed), 0);
    assert_eq!(count(2, Parity::Even), 1);
}

#[test]
fn interpolation_reproduces_a_smooth_function() {
    let c = interpolate(24, |x| (3.0 * x).sin() + x.exp());
    for k in 0..=40 {
        let x = f64::from(k) / 20.0 - 1.0;
        assert!((clenshaw(&c, x) - (3.0 * x).sin() - x.exp()).abs() < 1e-13);
    }
}

#[test]
fn refuses_what_does_not_fit() {
    assert_eq!(PolyPlan::new(0, Parity::Mixed), Err(PolyError::Constant));
    assert!(matches!(
        PolyPlan::new(1 << 20, Parity::Mixed),
        Err(PolyError::Degree(_))
    ));
    let plan = PolyPlan::new(4, Parity::Even).expect("a plan");
    assert!(matches!(
        plan.distribute(&[1.0; 4]),
        Err(PolyError::Length {
            given: 4,
            degree: 4
        })
    ));
    assert!(matches!(
        plan.distribute(&[1.0; 5]),
        Err(PolyError::Parity { index: 1, .. })
    ));
    assert!(matches!(
        plan.distribute(&[f64::NAN; 5]),
        Err(PolyError::NotFinite { index: 0, .. })
    ));
}
