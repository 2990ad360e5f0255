//! Readings of a container's counters (spec engine-api §6.4).

use crate::timestamp::{ZERO_TIME, rfc3339_nano};
use serde_json::{Map, Value, json};
use wharf_engine::model::container::Container;
use wharf_engine::model::view::StatsSample;

/// Returns one message of `GET /containers/{id}/stats`. `previous` gives `precpu_stats`, from which
/// clients compute the share of CPU time.
pub(crate) fn message(
    container: &Container,
    sample: &StatsSample,
    previous: Option<&StatsSample>,
) -> Value {
    let time = |sample: &StatsSample| match sample.read_at_ns {
        0 => ZERO_TIME.to_owned(),
        time_ns => rfc3339_nano(time_ns),
    };
    let is_read = sample.read_at_ns != 0;
    let mut message = json!({
        "name": format!("/{}", container.name),
        "id": container.id,
        "read": time(sample),
        "preread": previous.map_or_else(|| ZERO_TIME.to_owned(), time),
        "pids_stats": if is_read { pids(sample) } else { json!({}) },
        "blkio_stats": block_io(sample),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(sample),
        "precpu_stats": previous.map_or_else(|| cpu(&StatsSample::default()), cpu),
        "memory_stats": if is_read { memory(sample) } else { json!({}) },
    });
    // Left out where there are none, as Go leaves out empty maps.
    if !sample.networks.is_empty() {
        message["networks"] = networks(sample);
    }
    message
}

fn networks(sample: &StatsSample) -> Value {
    let counters = sample.networks.iter().map(|(name, counters)| {
        let value = json!({
            "rx_bytes": counters.rx_bytes,
            "rx_packets": counters.rx_packets,
            "rx_errors": counters.rx_errors,
            "rx_dropped": counters.rx_dropped,
            "tx_bytes": counters.tx_bytes,
            "tx_packets": counters.tx_packets,
            "tx_errors": counters.tx_errors,
            "tx_dropped": counters.tx_dropped,
        });
        (name.clone(), value)
    });
    Value::Object(counters.collect::<Map<_, _>>())
}

fn cpu(sample: &StatsSample) -> Value {
    let used = &sample.cgroup.cpu;
    let mut usage = json!({
        "total_usage": used.total_ns,
        "usage_in_kernelmode": used.kernel_ns,
        "usage_in_usermode": used.user_ns,
    });
    if !used.per_cpu_ns.is_empty() {
        usage["percpu_usage"] = json!(used.per_cpu_ns);
    }
    let mut cpu = json!({"cpu_usage": usage});
    // Left out while there is no reading, as Go leaves out zeros.
    if sample.read_at_ns != 0 {
        cpu["system_cpu_usage"] = json!(sample.system_cpu_ns);
        cpu["online_cpus"] = json!(sample.online_cpus);
    }
    cpu["throttling_data"] = json!({
        "periods": used.throttling.periods,
        "throttled_periods": used.throttling.throttled_periods,
        "throttled_time": used.throttling.throttled_ns,
    });
    cpu
}

fn pids(sample: &StatsSample) -> Value {
    let mut pids = json!({"current": sample.cgroup.pids.current});
    if let Some(limit) = sample.cgroup.pids.limit {
        pids["limit"] = json!(limit);
    }
    pids
}

/// The limit is the machine's memory where none is set: clients divide by it.
fn memory(sample: &StatsSample) -> Value {
    let used = &sample.cgroup.memory;
    let mut memory = json!({"usage": used.usage_bytes, "stats": used.details});
    if let Some(max_usage_bytes) = used.max_usage_bytes.filter(|_| sample.cgroup_version == 1) {
        memory["max_usage"] = json!(max_usage_bytes);
    }
    if used.failures != 0 {
        memory["failcnt"] = json!(used.failures);
    }
    let machine_bytes = sample.memory_total_bytes;
    memory["limit"] = json!(
        used.limit_bytes
            .map_or(machine_bytes, |limit| limit.min(machine_bytes))
    );
    memory
}

fn block_io(sample: &StatsSample) -> Value {
    let moved = sample.cgroup.block_io_bytes.iter().map(|entry| {
        json!({"major": entry.major, "minor": entry.minor, "op": entry.operation, "value": entry.value})
    });
    let operations = sample.cgroup.block_io_operations.iter().map(|entry| {
        json!({"major": entry.major, "minor": entry.minor, "op": entry.operation, "value": entry.value})
    });
    json!({
        "io_service_bytes_recursive": crate::wire::none_if_empty(moved.collect::<Vec<_>>()),
        "io_serviced_recursive": crate::wire::none_if_empty(operations.collect::<Vec<_>>()),
        "io_queue_recursive": null,
        "io_service_time_recursive": null,
        "io_wait_time_recursive": null,
        "io_merged_recursive": null,
        "io_time_recursive": null,
        "sectors_recursive": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(total_ns: u64, system_cpu_ns: u64) -> StatsSample {
        let mut sample = StatsSample {
            read_at_ns: 1_714_557_600_000_000_000,
            system_cpu_ns,
            online_cpus: 2,
            cgroup_version: 2,
            memory_total_bytes: 1000,
            ..StatsSample::default()
        };
        sample.cgroup.cpu.total_ns = total_ns;
        sample.cgroup.memory.usage_bytes = 300;
        sample.cgroup.memory.details = [("inactive_file".to_owned(), 100)].into();
        sample
    }

    /// Computes as docker's CLI does (spec engine-api §6.4).
    #[test]
    fn clients_compute_the_right_shares() {
        let value = message(
            &Container::default(),
            &sample(60, 1400),
            Some(&sample(10, 1000)),
        );
        let number = |path: &str| {
            value
                .pointer(path)
                .and_then(Value::as_f64)
                .expect("a number")
        };
        let used = number("/cpu_stats/cpu_usage/total_usage")
            - number("/precpu_stats/cpu_usage/total_usage");
        let all = number("/cpu_stats/system_cpu_usage") - number("/precpu_stats/system_cpu_usage");
        assert_eq!(used / all * number("/cpu_stats/online_cpus") * 100.0, 25.0);
        let memory = number("/memory_stats/usage") - number("/memory_stats/stats/inactive_file");
        assert_eq!(memory / number("/memory_stats/limit") * 100.0, 20.0);
    }

    #[test]
    fn a_container_that_does_not_run_has_zeros() {
        let value = message(&Container::default(), &StatsSample::default(), None);
        assert_eq!(value["read"], ZERO_TIME);
        assert_eq!(value["memory_stats"], json!({}));
        assert_eq!(value["cpu_stats"]["cpu_usage"]["total_usage"], 0);
        assert!(value["cpu_stats"].get("system_cpu_usage").is_none());
    }
}
