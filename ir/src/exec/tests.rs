//! The executor on the cleartext backend, against the interpreter and its own rules.

use super::*;
use crate::plan::{KeyList, KeyUse, Plan, Prices};
use crate::slot::tests::{attention, input, weights};
use crate::slot::{At, Interpreter, Op, Slots, StateId};
use crate::testing::{KIND, TOP, bootstrap, level, plan};
use sotto_params::ParamSet;
use std::ops::ControlFlow;
use std::sync::Arc;

fn executor(plan: &Plan, cache_bytes: usize) -> Executor<Clear> {
    let backend = Clear::for_plan(plan);
    Executor::new(
        Arc::new(plan.clone()),
        Arc::new(weights()),
        backend,
        cache_bytes,
    )
}

fn slots(position: u32) -> Slots {
    Slots::real(&input(position)).unwrap()
}

fn encrypted(executor: &Executor<Clear>, position: u32) -> Vec<ClearCt> {
    vec![executor.backend().encrypt(slots(position), TOP).unwrap()]
}

/// A price for every instruction, none like another's neighbour.
fn prices(plan: &Plan) -> Vec<Prices> {
    let templates = plan.decode.templates.iter();
    let of = |t: &crate::plan::PlanTemplate| Prices {
        seconds: (0..t.instrs.len()).map(|i| 1.0 + i as f64).collect(),
        key_switches: vec![1; t.instrs.len()],
        loops: vec![],
    };
    templates.map(of).collect()
}

#[test]
fn a_forecast_believes_the_plan_first_and_the_clock_then() {
    let mut plan = plan(&level(&attention()));
    let seconds = |s| std::time::Duration::from_secs_f64(s);
    assert_eq!(Forecast::decode(&plan, 0).left(seconds(1.0)), None);
    plan.estimate.prices = prices(&plan);
    let mut forecast = Forecast::decode(&plan, 0);
    let all = forecast.seconds.1;
    assert_eq!(forecast.left(seconds(0.0)), Some(all));
    // half is done, in twice the time that was predicted for it
    forecast.seconds.0 = all / 2.0;
    let left = forecast.left(seconds(all)).unwrap() / all;
    assert!((0.85..1.0).contains(&left), "{left}");
    assert_eq!(Forecast::prefill(&plan, 0, 2).instructions, (0, 0));
}

#[test]
fn plan_packed_and_leveled_agree_at_every_position() {
    let packed = attention();
    let leveled = level(&packed);
    let mut plan = plan(&leveled);
    plan.estimate.prices = prices(&plan);
    let data = weights();
    // No cache, a cache for one matrix, a cache for all.
    for cache_bytes in [0, 300, 1 << 20] {
        let executor = executor(&plan, cache_bytes);
        let mut session = Session::default();
        let (mut a, mut b) = Default::default();
        for position in 0..packed.capacity {
            let inputs = || vec![slots(position)];
            let from_packed = Interpreter::new(&packed, &data)
                .decode(&mut a, inputs(), &mut |_| ())
                .unwrap();
            let from_leveled = Interpreter::new(&leveled, &data)
                .decode(&mut b, inputs(), &mut |_| ())
                .unwrap();
            assert_eq!(from_packed, from_leveled);
            let mut forecast = Forecast::decode(&plan, position);
            let mut count = |event: &Event<'_, ClearCt>| {
                forecast.hear(event);
                ControlFlow::Continue(())
            };
            let inputs = encrypted(&executor, position);
            let out = executor.decode(&mut session, inputs, &mut count).unwrap();
            let Forecast {
                instructions,
                bootstraps,
                seconds,
                ..
            } = forecast;
            assert_eq!(instructions.0, instructions.1);
            assert_eq!(bootstraps, (2, 2));
            assert!((seconds.0 - seconds.1).abs() < 1e-9 && seconds.1 > 0.0);
            let error = out[0].slots.zip(&from_packed[0], |a, b| a - b).max_part();
            // What the plan bootstraps it bends, by at most 2^-19; the stages do not.
            assert!(error < 1e-5, "position {position}: {error}");
        }
        assert!(executor.cached_bytes() <= cache_bytes);
        assert_eq!(executor.cached_bytes() == 0, cache_bytes == 0);
        assert_eq!(session.groups(StateId(0), 1).len(), 4);
        let full = executor.decode(&mut session, encrypted(&executor, 0), &mut ignore);
        assert!(matches!(full, Err(ExecError::Capacity { capacity: 7 })));
    }
}

#[test]
fn the_key_list_has_the_rotations_of_the_operations() {
    let plan = plan(&level(&attention()));
    let key = |step, level| KeyUse {
        step: Some(step),
        level,
    };
    // Linear 1, 2 at 16; folds over lanes 1, 2 and back 255, 254; fold over tokens 4.
    let levels = [(1, 16), (2, 16), (4, 9), (254, 11), (255, 11)];
    let own = KeyList::of([&plan.decode], &[], plan.slots()).galois;
    assert_eq!(own, levels.map(|(step, level)| key(step, level)));
    // With the bootstrap's.
    let listed = &plan.keys.galois;
    assert!(listed.iter().any(|k| k.step.is_none()));
    for key in own {
        let covers = |k: &KeyUse| k.step == key.step && k.level >= key.level;
        assert!(listed.iter().any(covers));
    }
}

#[test]
fn a_failed_or_stopped_step_changes_nothing() {
    let executor = executor(&plan(&level(&attention())), 0);
    let mut session = Session::default();
    executor
        .decode(&mut session, encrypted(&executor, 0), &mut ignore)
        .unwrap();
    let before = format!("{session:?}");

    let mut stop_late = |event: &Event<'_, ClearCt>| match event.instr.op {
        Op::Bootstrap { .. } if event.layer == 1 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let stopped = executor.decode(&mut session, encrypted(&executor, 1), &mut stop_late);
    assert!(matches!(stopped, Err(ExecError::Stopped { layer: 1, .. })));
    assert_eq!(format!("{session:?}"), before);

    let low = executor.backend().encrypt(slots(1), 3).unwrap();
    let wrong = executor.decode(&mut session, vec![low], &mut ignore);
    assert!(matches!(
        wrong,
        Err(ExecError::At {
            found: At {
                level: 3,
                degree: 1
            },
            ..
        })
    ));
    let none = executor.decode(&mut session, vec![], &mut ignore);
    assert!(matches!(
        none,
        Err(ExecError::Inputs {
            expected: 1,
            found: 0
        })
    ));
    assert_eq!(format!("{session:?}"), before);
}

#[test]
fn what_is_encoded_ahead_is_not_encoded_again() {
    let plan = plan(&level(&attention()));
    for (budget, all) in [(usize::MAX, true), (1, false)] {
        let executor = executor(&plan, budget);
        let mut told = Vec::new();
        executor
            .warm(&mut |done, total| told.push((done, total)))
            .unwrap();
        // one matrix, of two layers
        assert_eq!((told.first(), told.last()), (Some(&(0, 2)), Some(&(2, 2))));
        assert_eq!(executor.cached_bytes() > 0, all);
        // a run keeps its masks, and finds every matrix
        let inputs = encrypted(&executor, 0);
        executor
            .decode(&mut Session::default(), inputs, &mut ignore)
            .unwrap();
        let kept = executor.cached_bytes();
        executor.warm(&mut |_, _| ()).unwrap();
        assert_eq!(executor.cached_bytes(), kept);
    }
}

#[test]
fn escapes_name_their_site_and_noise_stays_small() {
    let mut tight = plan(&level(&attention()));
    let site = "layers.{i}.attention";
    for instr in &mut tight.decode.templates[0].instrs {
        if matches!(instr.op, Op::Linear { .. }) && instr.site == site {
            instr.types[0].range = 0.01;
        }
    }
    let model = NoiseModel::of(&tight.params, vec![(KIND, 1e-6)]);
    let run = |seed| {
        let backend = Clear::for_plan(&tight).with_noise(model.clone(), 256, seed);
        let plan = Arc::new(tight.clone());
        let executor = Executor::new(plan, Arc::new(weights()), backend, 0);
        let mut watch = RangeWatch::default();
        let mut observe = |event: &Event<'_, ClearCt>| {
            watch.observe(executor.backend(), event);
            ControlFlow::Continue(())
        };
        let inputs = encrypted(&executor, 0);
        let out = executor
            .decode(&mut Session::default(), inputs, &mut observe)
            .unwrap();
        (out, watch.escapes())
    };
    let (noisy, escapes) = run(7);
    assert_eq!(run(7).0, noisy);
    assert_ne!(run(8).0, noisy);
    assert_eq!(escapes[0].site, "layers.0.attention");
    assert_eq!(escapes[0].op, "linear");
    assert!(escapes[0].declared == 0.01 && escapes[0].seen > 0.01);

    let exact = executor(&tight, 0);
    let inputs = encrypted(&exact, 0);
    let exact = exact
        .decode(&mut Session::default(), inputs, &mut ignore)
        .unwrap();
    let error = noisy[0].slots.zip(&exact[0].slots, |a, b| a - b).max_part();
    assert!((1e-8..1e-4).contains(&error), "{error}");
}

#[test]
fn the_cleartext_backend_refuses_what_the_scheme_refuses() {
    let clear = Clear::new(ParamSet::secure_128(), vec![bootstrap()]);
    let ct = |period: usize, level| {
        let values: Vec<f64> = (0..period).map(|p| p as f64 / 8.0).collect();
        clear.encrypt(Slots::real(&values).unwrap(), level).unwrap()
    };
    let (high, low) = (ct(4, 5), ct(4, 4));
    assert!(clear.add(&high, &low).is_err());
    assert!(clear.mul(&high, &low).is_err());
    assert!(clear.rescale(&high).is_err());
    assert!(clear.drop_to(&low, 5).is_err());
    assert!(clear.encrypt(Slots::splat(1.0.into()), 17).is_err());
    let product = clear.mul(&high, &high).unwrap();
    assert!(clear.mul(&product, &product).is_err());
    assert!(clear.drop_to(&product, 3).is_err());
    assert_eq!(
        clear.rescale(&product).unwrap().at,
        At {
            level: 4,
            degree: 1
        }
    );
    assert!(clear.poly(&low, &[0.0; 32]).is_err());
    assert_eq!(clear.poly(&low, &[0.0; 16]).unwrap().at.level, 0);

    let kind = KIND;
    let low_level = bootstrap().input_level as u32;
    assert!(clear.bootstrap(&low, kind).is_err());
    assert!(matches!(
        clear.bootstrap(&ct(8, low_level), kind),
        Err(ClearError::Period { .. })
    ));
    assert_eq!(
        clear.bootstrap(&ct(4, low_level), kind).unwrap().at.level,
        16
    );
    let dense = crate::slot::BootstrapKind { slots: 8, ..kind };
    assert!(matches!(
        clear.bootstrap(&ct(8, low_level), dense),
        Err(ClearError::Kind { .. })
    ));
    assert_eq!(clear.take_escape(), None);
    clear.poly(&ct(16, 9), &[0.0, 1.0]).unwrap();
    assert_eq!(clear.take_escape(), Some(15.0 / 8.0));
}

#[test]
fn a_session_resumes_where_it_was_saved_and_a_foreign_one_is_refused() {
    let executor = executor(&plan(&level(&attention())), 0);
    let step = |session: &mut Session<Arc<ClearCt>>, position| {
        executor.decode(session, encrypted(&executor, position), &mut ignore)
    };
    let mut session = Session::default();
    (0..3).for_each(|position| drop(step(&mut session, position).unwrap()));
    let saved = |session: &Session<Arc<ClearCt>>| -> Vec<_> {
        session
            .states()
            .map(|(s, l, groups)| (s, l, groups.to_vec()))
            .collect()
    };
    let mut resumed = Session::restore(session.position(), saved(&session));
    assert_eq!(
        step(&mut resumed, 3).unwrap(),
        step(&mut session, 3).unwrap()
    );
    assert_eq!(saved(&resumed), saved(&session));

    for position in [0, 2, 5] {
        let mut foreign = Session::restore(position, saved(&session));
        let refused = step(&mut foreign, position);
        assert!(
            matches!(refused, Err(ExecError::Session(_))),
            "position {position}"
        );
    }
    let mut empty = Session::restore(5, []);
    assert!(matches!(step(&mut empty, 5), Err(ExecError::Session(_))));
}
