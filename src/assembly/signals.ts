/** Signals that a service manager or a terminal sends to every process of the relay, and that mean the whole of it. */
export const SIGNALS_TO_ALL = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
