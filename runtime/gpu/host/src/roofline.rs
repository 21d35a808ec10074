//! Least times from counts: for a card of which only two rates are known.

use sotto_gpu::KernelFigure;
use std::fmt::{self, Write};

/// What a card does a second.
#[derive(Clone, Copy, Debug)]
pub struct Roofline {
    /// Bytes moved.
    pub bandwidth: f64,
    /// 32-bit words multiplied.
    pub products: f64,
}

impl fmt::Display for Roofline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bandwidth, products) = (self.bandwidth / 1e9, self.products / 1e12);
        write!(
            f,
            "a card of {bandwidth:.0} GB/s and {products:.1} T words/s"
        )
    }
}

impl Roofline {
    /// From `--bandwidth` and `--products` of the command line; an H100's by its data sheet where it says none.
    ///
    /// # Errors
    /// If what follows either is no number above 0.
    pub fn from_args() -> Result<Self, String> {
        let args: Vec<String> = std::env::args().collect();
        let after = |name: &str, otherwise: f64| {
            let Some(at) = args.iter().position(|a| a == name) else {
                return Ok(otherwise);
            };
            let number = args.get(at + 1).and_then(|text| text.parse().ok());
            let number = number.filter(|n: &f64| *n > 0.0 && n.is_finite());
            number.ok_or_else(|| format!("{name} takes a number above 0, as in 4800e9"))
        };
        Ok(Self {
            bandwidth: after("--bandwidth", 3350e9)?,
            products: after("--products", 14e12)?,
        })
    }

    /// Seconds for moving and for multiplying.
    fn seconds(&self, figure: &KernelFigure) -> [f64; 2] {
        [
            figure.work.bytes as f64 / self.bandwidth,
            figure.work.products as f64 / self.products,
        ]
    }

    /// Launches by kernel, with the time that each takes at least: the longer of its two.
    pub fn page(&self, what: &str, mut figures: Vec<KernelFigure>, peak_bytes: u64) -> String {
        let least = |f: &KernelFigure| self.seconds(f).into_iter().fold(0.0, f64::max);
        figures.sort_by(|a, b| least(b).total_cmp(&least(a)));
        let sum = |of: fn(&KernelFigure) -> u64| figures.iter().map(of).sum::<u64>();
        let mut page = format!(
            "{what}: {} launches, {:.2} GB moved, {:.1} G words multiplied, {:.3} ms at least, {:.2} GiB at the most\n",
            sum(|f| f.launches),
            sum(|f| f.work.bytes) as f64 / 1e9,
            sum(|f| f.work.products) as f64 / 1e9,
            figures.iter().map(least).sum::<f64>() * 1e3,
            peak_bytes as f64 / f64::from(1u32 << 30)
        );
        for f in &figures {
            let [moving, multiplying] = self.seconds(f);
            // writing to a String cannot fail
            let _ = writeln!(
                page,
                "  {:<24} {:>6} launches {:>9.3} GB {:>9.3} G words: {:>9.3} and {:>9.3} ms",
                f.kernel.name(),
                f.launches,
                f.work.bytes as f64 / 1e9,
                f.work.products as f64 / 1e9,
                moving * 1e3,
                multiplying * 1e3,
            );
        }
        page
    }
}
