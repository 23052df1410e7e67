//! Rounds, medians and ratios.

use std::fmt::{self, Display};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::Context;

/// One way to do a thing for about the time that it is given: a figure for each measure.
pub(crate) type Run = Box<dyn FnMut(Duration) -> Result<Vec<f64>>>;

/// Who does it, and how.
pub(crate) struct Contender {
    pub(crate) who: &'static str,
    pub(crate) run: Run,
}

/// Makes a contender whose only figure is how often it does the thing in a second.
pub(crate) fn rate(
    who: &'static str,
    mut run: impl FnMut(Duration) -> Result<f64> + 'static,
) -> Contender {
    Contender { who, run: Box::new(move |length| Ok(vec![run(length)?])) }
}

/// What somebody has asked of bidlock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    /// Of the ratio to the first contender.
    AtLeast(f64),
    /// Of the ratio to the first contender.
    AtMost(f64),
    /// Of the figure itself.
    ValueAtMost(f64),
}

impl Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(aim) => write!(f, "≥ {aim:.2}"),
            Self::AtMost(aim) | Self::ValueAtMost(aim) => write!(f, "≤ {aim:.2}"),
        }
    }
}

/// One figure of each round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    /// Stands behind the name of the bench.
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) aim: Option<Aim>,
}

/// How often something is done, and what share of the floor that should be.
pub(crate) const fn per_second(unit: &'static str, aim: Option<f64>) -> Measure {
    let aim = match aim {
        Some(aim) => Some(Aim::AtLeast(aim)),
        None => None,
    };
    Measure { what: "", unit, aim }
}

/// Something to measure.
pub(crate) struct Bench {
    pub(crate) name: &'static str,
    pub(crate) measures: Vec<Measure>,
    /// More rounds than this tell nothing new, or take too long; what is counted needs one.
    pub(crate) rounds_max: usize,
    /// Makes the contenders, the floor first, each on files and connections of its own.
    pub(crate) make: fn(&Context) -> Result<Vec<Contender>>,
}

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) length: Duration,
}

/// What came out of one measure for one contender.
struct Row {
    bench: String,
    who: &'static str,
    unit: &'static str,
    values: Spread,
    /// To the first contender, round by round; none for that one itself.
    ratios: Option<Spread>,
    aim: Option<Aim>,
}

/// The middle and the ends.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        let median = quantile(&mut values, 0.5);
        Self { median, least: values[0], most: values[values.len() - 1] }
    }
}

impl Bench {
    /// Runs all contenders in turn, after one short round of each that does not count, and prints
    /// a row for each figure of each.
    pub(crate) fn run(&self, context: &Context, effort: Effort) -> Result<()> {
        let mut contenders = (self.make)(context)?;
        if let Some(who) = &context.who {
            contenders.retain(|contender| contender.who == who);
            ensure!(!contenders.is_empty(), "{who}: no contender of that name");
        }
        let rounds = effort.rounds.min(self.rounds_max);
        if rounds > 1 {
            for contender in &mut contenders {
                (contender.run)(effort.length / 4)?;
            }
        }
        // By round, contender and measure.
        let mut figures = Vec::new();
        for _ in 0..rounds {
            let mut round = Vec::new();
            for contender in &mut contenders {
                let values = (contender.run)(effort.length)?;
                ensure!(values.len() >= self.measures.len(), "{} has too few", contender.who);
                round.push(values);
            }
            figures.push(round);
        }
        for (m, measure) in self.measures.iter().enumerate() {
            for (c, contender) in contenders.iter().enumerate() {
                let value = |round: &Vec<Vec<f64>>, of: usize| round[of][m];
                let values = figures.iter().map(|round| value(round, c)).collect();
                let ratios = figures.iter().map(|round| value(round, c) / value(round, 0));
                let row = Row {
                    bench: format!("{}{}", self.name, measure.what),
                    who: contender.who,
                    unit: measure.unit,
                    values: Spread::of(values),
                    ratios: (c > 0).then(|| Spread::of(ratios.collect())),
                    aim: measure.aim.filter(|_| contender.who == "bidlock"),
                };
                row.print(context.json);
            }
        }
        Ok(())
    }
}

/// The head of the table.
pub(crate) fn print_head() {
    println!(
        "{:<26} {:<13} {:<10} {:>9} {:>21}  {:<22} aim",
        "", "", "", "median", "(min … max)", "to the first"
    );
}

impl Row {
    fn print(&self, as_json: bool) {
        if as_json {
            println!("{}", self.to_json());
            return;
        }
        let Spread { median, least, most } = &self.values;
        let ratio = self
            .ratios
            .as_ref()
            .map(|ratio| format!("{:.2} ({:.2} … {:.2})", ratio.median, ratio.least, ratio.most));
        let row = format!(
            "{:<26} {:<13} {:<10} {:>9} {:>21}  {:<22} {}",
            self.bench,
            self.who,
            self.unit,
            figure(*median),
            format!("({} … {})", figure(*least), figure(*most)),
            ratio.unwrap_or_default(),
            self.aim.map(|aim| aim.to_string()).unwrap_or_default(),
        );
        println!("{}", row.trim_end());
    }

    fn to_json(&self) -> serde_json::Value {
        let Spread { median, least, most } = &self.values;
        let mut row = json!({
            "bench": self.bench, "who": self.who, "unit": self.unit,
            "median": median, "min": least, "max": most,
        });
        if let Some(Spread { median, least, most }) = &self.ratios {
            row["ratio"] = json!(median);
            row["ratio_min"] = json!(least);
            row["ratio_max"] = json!(most);
        }
        match self.aim {
            None => {}
            Some(Aim::AtLeast(aim)) => row["aim_ratio_min"] = json!(aim),
            Some(Aim::AtMost(aim)) => row["aim_ratio_max"] = json!(aim),
            Some(Aim::ValueAtMost(aim)) => row["aim_max"] = json!(aim),
        }
        row
    }
}

/// With as many digits as say something.
fn figure(value: f64) -> String {
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    let plain = format!("{value:.digits$}");
    if digits > 0 || plain.len() < 5 {
        return plain;
    }
    let mut grouped = String::new();
    for (n, digit) in plain.chars().enumerate() {
        if n > 0 && (plain.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Sorts, and takes the value that such a share of them does not exceed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a place in a list that lies in memory"
)]
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
