//! One line about steps that take seconds each: which layer, how many bootstraps, how long still.

use super::Meter;
use crate::StepProgress;
use std::time::{Duration, Instant};

/// How often the line is said where no terminal shows it.
const SAID_EVERY: Duration = Duration::from_secs(30);
/// Parts that the bar is drawn in.
const PARTS: u64 = 1000;

/// Steps one after the other, shown on a meter. Only what the plan and the clock say is shown, never what was computed.
pub(super) struct Course {
    /// What the step is, in words.
    what: String,
    /// Steps done, and in all.
    steps: (u64, u64),
    began: Instant,
    /// Seconds of the step before.
    last: Option<f64>,
    said: Instant,
}

impl Course {
    /// So many steps, of which none has begun.
    pub fn new(steps: u64) -> Self {
        let now = Instant::now();
        Self {
            what: String::new(),
            steps: (0, steps.max(1)),
            began: now,
            last: None,
            said: now,
        }
    }

    /// The next step begins, with so many done before it.
    pub fn begin(&mut self, meter: &Meter, done: u64, what: String) {
        if done > 0 {
            self.last = Some(self.began.elapsed().as_secs_f64());
        }
        (self.steps.0, self.what, self.began) = (done, what, Instant::now());
        let left = self.last.map(|each| each * self.remaining(0));
        self.show(meter, 0.0, line(&self.what, &StepProgress::default(), left));
    }

    /// The step is this far.
    pub fn hear(&mut self, meter: &Meter, progress: &StepProgress) {
        let left = progress.seconds_left.map(|left| {
            let this = self.began.elapsed().as_secs_f64() + left;
            left + self.last.unwrap_or(this) * self.remaining(1)
        });
        self.show(meter, progress.share, line(&self.what, progress, left));
    }

    /// Steps that are left when `begun` more are not counted.
    fn remaining(&self, begun: u64) -> f64 {
        let (done, all) = self.steps;
        all.saturating_sub(done + begun) as f64
    }

    fn show(&mut self, meter: &Meter, share: f64, line: String) {
        let (done, all) = self.steps;
        // a server's word may be any number
        let share = if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        };
        let parts = (done as f64 + share) / all as f64 * PARTS as f64;
        meter.set(parts as u64, PARTS);
        if !meter.is_shown() && self.said.elapsed() >= SAID_EVERY {
            eprintln!("{line}");
            self.said = Instant::now();
        }
        meter.say(line);
    }
}

/// `token 3 · layer 1 of 2 · bootstraps 3/5 · 4 s left · mlp.up_proj`.
fn line(what: &str, progress: &StepProgress, left: Option<f64>) -> String {
    // A server's word is not to steer the terminal.
    let site: String = progress.site.chars().filter(|c| !c.is_control()).collect();
    let mut parts = vec![what.to_string()];
    if progress.layer > 0 {
        parts.push(format!("layer {} of {}", progress.layer, progress.layers));
    }
    if progress.bootstraps_total > 0 {
        let (done, all) = (progress.bootstraps, progress.bootstraps_total);
        parts.push(format!("bootstraps {done}/{all}"));
    }
    parts.extend(left.and_then(duration).map(|left| format!("{left} left")));
    parts.push(in_layer(&site).into());
    parts.retain(|part| !part.is_empty());
    parts.join(" · ")
}

/// A site without the layer that it is in.
fn in_layer(site: &str) -> &str {
    let rest = site.strip_prefix("layers.").and_then(|s| s.split_once('.'));
    rest.map_or(site, |(_, rest)| rest)
}

/// Seconds for people; None for what is no time.
fn duration(seconds: f64) -> Option<String> {
    // a day is as far as anybody looks
    if !(0.0..864_000.0).contains(&seconds) {
        return None;
    }
    let whole = seconds.ceil() as u64;
    Some(match whole {
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min", whole.div_ceil(60)),
        _ => format!("{:.1} h", seconds / 3600.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> StepProgress {
        StepProgress {
            bootstraps: 3,
            bootstraps_total: 5,
            layer: 1,
            layers: 2,
            share: 0.5,
            seconds_left: Some(3.2),
            site: "layers.0.mlp.up_proj".into(),
            ..StepProgress::default()
        }
    }

    #[test]
    fn a_line_tells_layer_bootstraps_and_time() {
        assert_eq!(
            line("token 3", &progress(), Some(3.2)),
            "token 3 · layer 1 of 2 · bootstraps 3/5 · 4 s left · mlp.up_proj"
        );
        let odd = StepProgress {
            site: "waiting\u{1b}[2J in line".into(),
            ..StepProgress::default()
        };
        assert_eq!(line("token 1", &odd, None), "token 1 · waiting[2J in line");
        assert_eq!(line("t", &StepProgress::default(), Some(f64::NAN)), "t");
    }

    #[test]
    fn times_are_rounded_up() {
        let words = [0.2, 119.0, 121.0, 7200.0, -1.0, f64::INFINITY].map(duration);
        let words: Vec<&str> = words.iter().map(|w| w.as_deref().unwrap_or("-")).collect();
        assert_eq!(words, ["1 s", "119 s", "3 min", "2.0 h", "-", "-"]);
    }
}
