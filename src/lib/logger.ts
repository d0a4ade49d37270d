/** What is logged: values as fields, a constant message. Composed in telemetry/, passed down as an argument. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}
