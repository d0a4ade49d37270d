import { LaminaError } from '../../lib/errors.ts';

/** `noatime`, `commit=30`, `subtype=a.b`: nothing that mount(8) would take for more than one option. */
const plainFlag = /^[A-Za-z0-9_][A-Za-z0-9_.:=@%+/-]*$/;
/** SELinux contexts have commas, and are therefore quoted. */
const contextFlag = /^(?:fs|def|root)?context="[A-Za-z0-9_:.,-]+"$/;

/** Options that decide what is mounted, or how mount(8) goes about it, instead of how the file system behaves. */
const reserved = new Set(
  'bind rbind move remount loop offset sizelimit uuid label user users owner group auto noauto _netdev helper uhelper shared private slave unbindable rshared rprivate rslave runbindable device degraded subvol subvolid logdev rtdev journal_dev journal_path'.split(
    ' ',
  ),
);

/** @throws LaminaError `invalid-parameter` naming the first flag that cannot be given to mount(8) as it is */
export function requireMountFlags(flags: readonly string[]): void {
  for (const flag of flags) {
    if (!plainFlag.test(flag) && !contextFlag.test(flag)) {
      throw invalid(flag, 'give each option as a flag of its own, without commas, spaces or quotes');
    }
    const name = flag.split('=')[0] ?? '';
    if (reserved.has(name) || /^[xX]-/.test(flag)) {
      throw invalid(flag, 'it would change what is mounted, which the volume decides; leave it out');
    }
  }
}

function invalid(flag: string, what: string): LaminaError {
  return new LaminaError('invalid-parameter', `mount flag ${JSON.stringify(flag)}: ${what}`);
}

/** Options of a single mount that the kernel always shows, by the flags that set and clear them. */
const shown: Record<string, { option: string; isSet: boolean }> = Object.fromEntries(
  [
    ['ro', 'rw'],
    ['noexec', 'exec'],
    ['nosuid', 'suid'],
    ['nodev', 'dev'],
    ['noatime', 'atime'],
    ['nodiratime', 'diratime'],
  ].flatMap(([option = '', opposite = '']) => [
    [option, { option, isSet: true }],
    [opposite, { option, isSet: false }],
  ]),
);

/** Whether a mount could have been made with these flags, as far as the kernel tells. @param options of the mount */
export function couldBeMountedWith(flags: readonly string[], options: readonly string[]): boolean {
  const wanted = new Map(Object.values(shown).map(({ option }) => [option, false]));
  for (const flag of flags) {
    const known = shown[flag];
    if (known) wanted.set(known.option, known.isSet);
  }
  return [...wanted].every(([option, isSet]) => options.includes(option) === isSet);
}
