//! Samples become a table in Markdown.

use std::collections::HashMap;

use crate::measure::{Measured, Sample};
use crate::scenario::Scenario;

/// Medians and ratios, one line a scenario.
pub fn print(measured: &Measured, scenarios: &[Scenario]) {
    println!("\n| scenario | CPU µs | + Redis | × bare | aim | × nginx | requests/s | p50 ms | p99 ms |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for scenario in scenarios {
        let Some(samples) = measured.samples.get(scenario.name) else { continue };
        let of = |read: fn(&Sample) -> f64| median(samples.iter().map(read).collect());
        let all = of(|sample| sample.cpu_micros + sample.redis_micros);
        let ratio = |other: &str| {
            let other = measured.samples.get(other)?;
            // Round by round: what disturbs one disturbs the other.
            let pairs = samples.iter().zip(other);
            Some(median(pairs.map(|(one, base)| (one.cpu_micros + one.redis_micros) / base.cpu_micros).collect()))
        };
        let show = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), |number| format!("{number:.2}"));
        println!(
            "| {} | {:.1} | {:.1} | {} | {} | {} | {:.0} | {:.2} | {:.2} |",
            scenario.name,
            all,
            of(|sample| sample.redis_micros),
            show(ratio(scenario.against.0)),
            scenario.aim.map_or_else(|| "–".to_owned(), |aim| format!("≤ {aim:.2}")),
            show(ratio(scenario.against.1)),
            of(|sample| sample.seen.per_second),
            of(|sample| sample.seen.p50_ms),
            of(|sample| sample.seen.p99_ms),
        );
    }
    println!("\n| program | idle MiB | peak MiB |\n| --- | --- | --- |");
    for (target, idle, peak) in &measured.memory {
        println!("| {target:?} | {:.1} | {:.1} |", *idle as f64 / 1024.0, *peak as f64 / 1024.0);
    }
}

/// Instructions per request, with ratios to the engine alone.
pub fn print_counts(counts: &HashMap<&'static str, u64>, scenarios: &[Scenario]) {
    println!("\n| scenario | instructions | × bare |\n| --- | --- | --- |");
    for scenario in scenarios {
        let Some(count) = counts.get(scenario.name) else { continue };
        let base = counts.get(scenario.against.0).copied().unwrap_or(*count);
        println!("| {} | {count} | {:.2} |", scenario.name, *count as f64 / base as f64);
    }
}

/// The one in the middle.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
