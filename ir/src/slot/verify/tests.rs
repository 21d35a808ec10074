//! Each rule is broken once, and reported with the statement that breaks it.

use crate::slot::tests::attention;
use crate::slot::*;
use crate::testing::{TOP, bootstrap, level};
use crate::violation::Violations;

fn verify(program: &Program<Leveled>) -> Result<(), Violations> {
    let rules = LevelRules {
        top: TOP,
        bootstraps: &[bootstrap()],
    };
    program.verify(&rules)
}

/// Damage the text of a valid program and find the report.
fn damaged(good: &str, bad: &str) -> Violations {
    let text = level(&attention()).to_string();
    assert!(text.contains(good), "{good}\nis not in\n{text}");
    let text = text.replacen(good, bad, 1);
    verify(&text.parse().unwrap()).unwrap_err()
}

#[test]
fn the_attention_verifies_in_both_stages() {
    attention().verify().unwrap();
    verify(&level(&attention())).unwrap();
}

#[test]
fn every_broken_rule_is_reported() {
    for (good, bad, message) in [
        ("slots=256", "slots=255", "255 slots are not a power of two"),
        ("capacity=7", "capacity=0", "the capacity is 0"),
        (
            "checkpoint \"0\"",
            "checkpoint \"\"",
            "the checkpoint has no digest",
        ),
        ("data d0 \"w\"", "data d0 \"\"", "a name is empty"),
        ("shape=[4, 4]", "shape=[4, 0]", "holds nothing"),
        (
            "shape=[4, 4]",
            "shape=[4, 3]",
            "it has 16 entries, its data 12",
        ),
        (
            "matrix []",
            "matrix [\"q\" rows plain 4 columns plain 4 scale 1.0]",
            "`q` names one tensor for all layers",
        ),
        (
            "matrix []",
            "matrix [\"q\" rows heads 4/4 kv 0 lanes 4/4 columns plain 4 scale 1.0]",
            "`heads 4/4 kv 0 lanes 4/4` is no map",
        ),
        (
            "matrix []",
            "rope_cos rows heads 4/0 kv 4 lanes 4/4 scale 1.0",
            "`heads 4/0 kv 4 lanes 4/4` is no map",
        ),
        (
            "matrix []",
            "values [[1.0]]",
            "do not have the declared shape",
        ),
        (
            "current_token 2/4",
            "current_token 3/4",
            "does not repeat with a power of two",
        ),
        (
            "first 1/4",
            "first 5/4",
            "does not repeat with a power of two",
        ),
        (
            "first 1/4",
            "vector d0",
            "does not repeat with a power of two",
        ),
        ("first 1/4", "vector d9", "there is no data d9"),
        (
            "inverse_count",
            "const inf",
            "the constant inf is not finite",
        ),
        (
            "in=4, out=4",
            "in=4, out=6",
            "widths [4, 6], stride 1 or block 1 are not powers of two",
        ),
        ("baby=2", "baby=5", "5 baby steps for 4 diagonals"),
        ("state s1 \"v\"", "state s1 \"k\"", "the name `k` is taken"),
        (
            "state s0 \"k\" : tokens 2/4",
            "state s0 \"k\" : partial 8",
            "its layout is neither `tokens` nor `matrix`",
        ),
        (
            "state s0 \"k\" : tokens 2/4",
            "state s0 \"k\" : matrix rows 4/1 baby 1",
            "what is given lies as `matrix rows 4/1 baby 1`",
        ),
        (
            "state s0 \"k\" : tokens 2/4",
            "state s0 \"k\" : matrix rows 4/1 baby 4",
            "is no layout of 256 slots",
        ),
        (
            "\"layer\"(%0: periodic 4/4",
            "\"layer\"(%0: matrix rows 4/1 baby 1",
            "a matrix, which only a group template receives",
        ),
        (
            " = mul %3, %1 :",
            " = apply %1, %3, step=4, count=2, baby=1 :",
            "no matrix of 2 diagonals in 1 steps of 4",
        ),
        (
            "unit 1.0 at 13",
            "unit 1.0",
            "no application level is chosen",
        ),
        (
            "template t1 \"visit\"",
            "template t1 \"layer\"",
            "the name `layer` is taken",
        ),
        (
            "linear %0, m0 : periodic 4/4",
            "linear %0, m0 : periodic 5/4",
            "`periodic 5/4` is no layout",
        ),
        (
            "linear %0, m0 : periodic 4/4 real range 1.0 unit 1.0",
            "linear %0, m0 : periodic 4/4 real range NaN unit -1.0",
            "the unit -1.0 is not positive",
        ),
        ("%4 = drop %2", "%3 = drop %2", "%3 is defined twice"),
        (
            "rescale %1 :",
            "rescale %9 :",
            "%9 is not defined before it is read",
        ),
        ("@drop", "@", "the site \"\" is empty"),
        ("mul_plain %8, p3", "mul_plain %8, p7", "there is no p7"),
        (
            "mul_plain %8, p3",
            "mul_plain %8, p2",
            "a mask of cached tokens outside a group template",
        ),
        ("linear %0, m0", "linear %0, m1", "there is no m1"),
        (
            "linear %0, m0 : periodic 4/4",
            "linear %0, m0 : periodic 2/2",
            "repeats after 4 slots, its type says 2",
        ),
        (
            "fold %7, step=4, count=2",
            "fold %7, step=4, count=3",
            "3 copies at steps of 4",
        ),
        (
            "fold %7, step=4, count=2",
            "fold %7, step=2, count=2",
            "repeats after 8 slots, its type says 4",
        ),
        (
            "periodic 4/4 real range 1.0 unit 1.0 at 1/1",
            "periodic 4/4 real range 1.5 unit 1.0 at 1/1",
            "its operand has range 1.5, more than 1",
        ),
        (
            "periodic 4/4 real range 1.0 unit 1.0 at 1/1",
            "periodic 4/4 complex range 1.0 unit 1.0 at 1/1",
            "a real bootstrap of a complex value",
        ),
        (
            "rescale %5 : periodic 4/4 real",
            "rescale %5 : periodic 4/4 complex",
            "what is given is complex, %0 of `visit` real",
        ),
        ("append %4, s1", "append %4, s0", "s0 is appended to twice"),
        (
            "append %4, s1",
            "append %4, s0",
            "s1 is appended to only later, or never",
        ),
        ("append %4, s1", "append %4, s2", "there is no s2"),
        (
            "states=[s0, s1]",
            "states=[s0]",
            "`visit` takes 3 parameters, 2 are given",
        ),
        (
            "sum_groups [%6], t1",
            "sum_groups [%6], t4",
            "there is no template t4",
        ),
        (
            "sum_groups [%6], t1",
            "sum_groups [%6], t0",
            "a group template is run as a step",
        ),
        (
            "sum_groups [%6], t1",
            "sum_groups [%6], t0",
            "`visit` is never run",
        ),
        (
            "unit 1.0 at 13\n",
            "unit 2.0 at 13\n",
            "the appended value has unit 1.0, s0 2.0",
        ),
        ("-> [%12]", "-> [%13]", "result %13 is not defined"),
        (
            "-> [%12]",
            "-> [%12, %12]",
            "`layer` has 2 results, `layer` takes 1 parameters",
        ),
        (
            "step t0, first=0, count=2",
            "step t2, first=0, count=2",
            "there is no template t2",
        ),
        (
            "step t0, first=0, count=2",
            "step t0, first=0, count=0",
            "it runs no layer",
        ),
        ("step t0, first=0, count=2", "", "there are none"),
        (
            "step t0, first=0, count=2",
            "step t0, first=0, count=2\nstep t0, first=1, count=1",
            "state s0 of layer 1 is appended to twice",
        ),
        (
            "step t0, first=0, count=2",
            "step t0, first=4294967295, count=2",
            "layers beyond",
        ),
        // Levels.
        (
            "(%0: periodic 4/4 real range 1.0 unit 1.0 at 16/1)",
            "(%0: periodic 4/4 real range 1.0 unit 1.0 at 17/1)",
            "17/1 is no application level",
        ),
        (
            "at 16/2  @layers.{i}.attention  ; \"mask\"",
            "at 16/1  @layers.{i}.attention",
            "the result is at 16/2",
        ),
        ("%2 = rescale %1", "%2 = neg %1", "the result is at 16/2"),
        (
            "mul_plain %8, p3",
            "mul_plain %5, p3",
            "operands at 16/2: degree 1 is needed",
        ),
        (
            "drop %2, level=13",
            "drop %2, level=14",
            "the result is at 14/1",
        ),
        (
            "drop %0, level=13",
            "drop %0, level=16",
            "a drop up from 15/1",
        ),
        (
            "mul %3, %1",
            "mul %0, %1",
            "operands at 15/1, 13/1 are not equal",
        ),
        (
            "unit 1.0 at 13\n",
            "unit 1.0 at 12\n",
            "the value is at 13/1, the state takes 12/1",
        ),
        (
            "bootstrap %11, slots=4, real",
            "bootstrap %11, slots=8, real",
            "no such bootstrap is given",
        ),
        (
            "bootstrap %11, slots=4, real",
            "bootstrap %10, slots=4, real",
            "the operand is at 8/1; 1/1 is needed",
        ),
        (
            "sum_groups [%6]",
            "sum_groups [%0]",
            "%0 of `visit` is at 15/1, given 16/1",
        ),
        (
            "-> [%12]",
            "-> [%10]",
            "result %10 is at 8/1, `layer` takes 16/1",
        ),
    ] {
        let report = damaged(good, bad).to_string();
        assert!(
            report.contains(message),
            "{good} -> {bad}: no `{message}` in\n{report}"
        );
    }
}

#[test]
fn a_report_has_all_violations_with_their_statements() {
    let report = damaged("fold %7, step=4, count=2", "fold %7, step=0, count=3");
    let [violation] = &report.list[..] else {
        panic!("{report}")
    };
    assert_eq!(violation.place, "template t0");
    assert!(
        violation
            .statement
            .as_ref()
            .unwrap()
            .starts_with("%8 = fold %7, step=0, count=3 :")
    );

    let mut program = level(&attention());
    program.slots = 3;
    program.matrices[0].baby = 0;
    assert!(verify(&program).unwrap_err().list.len() > 2);
}

#[test]
fn the_packed_stage_has_no_levels() {
    let mut program = attention();
    program.states[0].level = Some(3);
    let report = program.verify().unwrap_err().to_string();
    assert!(report.contains("a level in the packed stage"), "{report}");
    let mut program = attention();
    program.templates[0].nodes[0].op = Op::Rescale { v: ValueId(0) };
    let report = program.verify().unwrap_err().to_string();
    assert!(report.contains("belongs to the leveled stage"), "{report}");
}
