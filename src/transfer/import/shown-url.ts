/** A URL as messages have it: what follows the path may be a secret, as where a server redirects those who have logged in. */
export function shownUrl({ protocol, host, pathname }: URL): string {
  return `${protocol}//${host}${pathname}`;
}
