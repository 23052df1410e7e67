mod measure;

use std::sync::Arc;
use std::time::Duration;

use bidlock::{Health, Key, Locker, StoreUrl};
use serde_json::{Value, json};

use super::context::Context;
use crate::args::{BenchArgs, duration};
use crate::exit::Failure;
use crate::output::{Output, Table};
use measure::{Asks, Bench, IDLE_MAX, Sample, TTL, WAITERS};

/// Measures the lock store by what the library does with it.
pub(crate) async fn run(args: BenchArgs, context: &Context) -> Result<u8, Failure> {
    context.say_default();
    let setting = &context.config.lock;
    let url = setting.built()?;
    let asks = Arc::new(Asks::default());
    let open = || context.builder().observer(Arc::clone(&asks) as _).open(url);
    let one = open().await?;
    // What is in memory is shared by clones alone.
    let two = if *url == StoreUrl::Memory { one.clone() } else { open().await? };
    let health = one.ping().await?;
    let length = Duration::from_secs(args.seconds.into());
    let rng = &context.platform.rng;
    let name = format!("bench-{:016x}", rng.next_u64());
    let all = length * 3 + length.min(IDLE_MAX);
    let key = Key::named(&name)?.with_prefix(one.prefix());
    context.output.say(&format!(
        "measuring {} for {}, on keys that begin with {key}",
        setting.value,
        duration::show(all)
    ));
    let bench =
        Bench { one: one.clone(), two: two.clone(), clock: context.clock(), name, length, asks };
    let measured = measure_all(&bench, args.tasks).await;
    // Also after a failure: nothing shall stay for longer than it must.
    drop(bench);
    context.close(&one).await;
    context.close(&two).await;
    show(&measured?, &args, &health, &two, &context.output)?;
    Ok(0)
}

/// What came out.
struct Measured {
    single: Sample,
    many: Sample,
    /// `None` where the store cannot list who waits.
    hand_overs: Option<Sample>,
    idle: Duration,
    idle_asks: u64,
}

async fn measure_all(bench: &Bench, tasks: u16) -> Result<Measured, Failure> {
    let single = bench.cycles(1).await?;
    let many = bench.cycles(tasks).await?;
    let hand_overs = bench.hand_overs().await?;
    let (idle, idle_asks) = bench.idle().await?;
    Ok(Measured { single, many, hand_overs, idle, idle_asks })
}

fn show(
    measured: &Measured,
    args: &BenchArgs,
    health: &Health,
    locker: &Locker,
    output: &Output,
) -> Result<(), Failure> {
    if output.json {
        let mut object = object(measured, args);
        object["endpoint"] = locker.endpoint().as_str().into();
        object["server"] = health.server.clone().into();
        object["version"] = health.version.clone().into();
        return Ok(output.object(&object)?);
    }
    output.table(&table(measured, args))?;
    output.say(&format!("{} {}, {}", health.server, health.version, locker.endpoint()));
    Ok(())
}

fn table(measured: &Measured, args: &BenchArgs) -> Table {
    let mut table = Table::new(&["MEASURED", "NUMBER", "PER SECOND", "P50", "P99"]);
    let micros = |micros: u64| format!("{micros}us");
    for (tasks, sample) in [(1, &measured.single), (args.tasks, &measured.many)] {
        let plural = if tasks == 1 { "" } else { "s" };
        table.row(vec![
            format!("acquire+release, {tasks} task{plural}").into(),
            sample.count().to_string().into(),
            sample.per_second().to_string().into(),
            micros(sample.percentile(50)).into(),
            micros(sample.percentile(99)).into(),
        ]);
    }
    let dash = || "-".into();
    if let Some(sample) = &measured.hand_overs {
        table.row(vec![
            format!("hand-over, {WAITERS} waiters").into(),
            sample.count().to_string().into(),
            dash(),
            micros(sample.percentile(50)).into(),
            micros(sample.percentile(99)).into(),
        ]);
    }
    let idle = format!("asks of a waiter in {}", duration::show(measured.idle));
    table.row(vec![idle.into(), measured.idle_asks.to_string().into(), dash(), dash(), dash()]);
    table
}

fn object(measured: &Measured, args: &BenchArgs) -> Value {
    let cycles = |tasks: u16, sample: &Sample| {
        json!({
            "tasks": tasks,
            "cycles": sample.count(),
            "cycles_per_s": sample.per_second(),
            "cycle_p50_us": sample.percentile(50),
            "cycle_p99_us": sample.percentile(99),
        })
    };
    let hand_over = measured.hand_overs.as_ref().map(|sample| {
        json!({
            "waiters": WAITERS,
            "hand_overs": sample.count(),
            "hand_over_p50_us": sample.percentile(50),
            "hand_over_p99_us": sample.percentile(99),
        })
    });
    let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    json!({
        "measurement_s": args.seconds,
        "ttl_ms": millis(TTL),
        "one_task": cycles(1, &measured.single),
        "many_tasks": cycles(args.tasks, &measured.many),
        "hand_over": hand_over,
        "idle": { "wait_ms": millis(measured.idle), "asks": measured.idle_asks },
    })
}
