// How the embedded PostgreSQL is set up, at each start, whatever its postgresql.conf says.

/** Settings for one server process with modest memory and the full promise of durability. */
export function postgresSettings(logs: string): Readonly<Record<string, string>> {
  return {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: "100",
    shared_buffers: "128MB",
    fsync: "on",
    synchronous_commit: "on",
    full_page_writes: "on",
    // There is no replica. Little WAL also bounds how long recovery after a crash takes.
    wal_level: "minimal",
    max_wal_senders: "0",
    max_wal_size: "256MB",
    // Short statements gain nothing from either, and workers need shared memory that containers ration.
    jit: "off",
    max_parallel_workers_per_gather: "0",
    max_parallel_maintenance_workers: "0",
    timezone: "UTC",
    log_timezone: "UTC",
    // A week of files, each overwritten when its weekday comes again.
    logging_collector: "on",
    log_destination: "stderr",
    log_directory: logs,
    log_filename: "postgresql-%a.log",
    log_rotation_age: "1d",
    log_rotation_size: "0",
    log_truncate_on_rotation: "on",
    log_line_prefix: "%m [%p] %a ",
    log_checkpoints: "off",
    // Statements and row values carry people's messages, which have no place in a log.
    log_min_error_statement: "panic",
    // fence: embedded-log-terse
    log_error_verbosity: "terse",
  };
}
