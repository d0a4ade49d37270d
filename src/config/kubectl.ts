import { delimiter, join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';

export interface KubectlConfig {
  role: 'kubectl';
  kubeconfig: string;
  /** Null for the one of the kubeconfig's context, or all of them. */
  namespace: string | null;
  task: { kind: 'pools' | 'tree' } | { kind: 'why'; claim: string } | ExportTask | UploadTask;
}

/** How a node is reached, and as whom. */
export interface ExchangeOptions {
  /** HOST:PORT; null for where the node's DiskPool says. */
  address: string | null;
  /** Of the namespace, whose token is sent; null for that of the kubeconfig. */
  serviceAccount: string | null;
}

export interface ExportTask extends ExchangeOptions {
  kind: 'export';
  resource: 'diskimages' | 'disksnapshots' | 'volumesnapshots';
  name: string;
  format: 'qcow2' | 'raw';
  /** A file, or `-` for standard output. */
  output: string;
}

export interface UploadTask extends ExchangeOptions {
  kind: 'upload';
  file: string;
  name: string;
}

const exportedKinds = {
  diskimage: 'diskimages',
  disksnapshot: 'disksnapshots',
  volumesnapshot: 'volumesnapshots',
} as const;

export function addKubectl(
  program: Command,
  kubeconfigFile: string,
  use: (options: Omit<KubectlConfig, 'role'>) => void,
): void {
  const command = program
    .command('kubectl')
    .description(
      "What kubectl shows as 'kubectl lamina': the disks of a cluster, what a claim waits for; and files to and from it.",
    );
  const add = (name: string, description: string) =>
    command
      .command(name)
      .description(description)
      .option('--kubeconfig <file>', 'how to reach the API server', kubeconfigFile);
  add('pools', 'The pools of all nodes and their space.').action(({ kubeconfig: file }) =>
    use({ kubeconfig: file, namespace: null, task: { kind: 'pools' } }),
  );
  add('tree', 'DiskImages and DiskSnapshots by node, below what they started from.')
    .option('-n, --namespace <name>', 'only those of it and of its claims')
    .action(({ kubeconfig: file, namespace: name }) =>
      use({ kubeconfig: file, namespace: name ?? null, task: { kind: 'tree' } }),
    );
  add('why', 'What a PersistentVolumeClaim waits for, and what to do. Exit code 4 where it waits for something.')
    .argument('<claim>', 'its name', claimName)
    .option('-n, --namespace <name>', "where it is; that of the kubeconfig's context unless given")
    .action((claim, { kubeconfig: file, namespace: name }) =>
      use({ kubeconfig: file, namespace: name ?? null, task: { kind: 'why', claim } }),
    );
  addExchange(add, use);
}

function addExchange(
  add: (name: string, description: string) => Command,
  use: (options: Omit<KubectlConfig, 'role'>) => void,
): void {
  const common = (command: Command) =>
    command
      .option('-n, --namespace <name>', "where it is; that of the kubeconfig's context unless given")
      .option(
        '--service-account <name>',
        'one of the namespace, whose token is sent; that of the kubeconfig unless given',
      )
      .option('--address <address>', 'HOST:PORT of the node, such as that of kubectl port-forward');
  common(add('export', 'Takes a sealed DiskImage, or a snapshot as KIND/NAME, out of the cluster as one file.'))
    .argument('<name>', 'of the DiskImage; or volumesnapshot/NAME, disksnapshot/NAME', exported)
    .addOption(new Option('--format <format>', 'of the file').choices(['qcow2', 'raw']).default('qcow2'))
    .option('-o, --output <file>', 'NAME.FORMAT unless given; - for standard output')
    .action(({ resource, name }, { kubeconfig: file, namespace, format, output = `${name}.${format}`, ...how }) => {
      const task = { kind: 'export', resource, name, format, output, ...exchangeOf(how) } as const;
      use({ kubeconfig: file, namespace: namespace ?? null, task });
    });
  common(
    add(
      'upload',
      'Sends the file of a DiskImage to its node, and waits until it is made. Exit code 4 where it is refused.',
    ),
  )
    .argument('<file>', 'qcow2, raw, vmdk, vdi or vhdx; as it is, or compressed with gzip, xz or zstd')
    .argument('<name>', 'of the DiskImage, which is declared where it is not there')
    .action((file, name, { kubeconfig, namespace, ...how }) => {
      use({ kubeconfig, namespace: namespace ?? null, task: { kind: 'upload', file, name, ...exchangeOf(how) } });
    });
}

function exchangeOf({ address = null, serviceAccount = null }: Partial<ExchangeOptions>): ExchangeOptions {
  return { address, serviceAccount };
}

/** As kubectl takes it, too: `pvc/data`. */
function claimName(text: string): string {
  const name = text.replace(/^(pvc|persistentvolumeclaims?)\//, '');
  if (name !== '' && !name.includes('/')) return name;
  throw new InvalidArgumentError('NAME of a PersistentVolumeClaim is wanted.');
}

function exported(text: string): Pick<ExportTask, 'resource' | 'name'> {
  const [kind = '', name, ...more] = text.includes('/') ? text.split('/') : ['diskimage', text];
  const resource = Object.entries(exportedKinds).find(
    ([singular, plural]) => kind === singular || kind === plural,
  )?.[1];
  if (resource && name && more.length === 0) return { resource, name };
  throw new InvalidArgumentError('NAME of a DiskImage is wanted, or volumesnapshot/NAME or disksnapshot/NAME.');
}

/** Where kubectl looks. */
export function kubeconfigOf({ KUBECONFIG, HOME = '/root' }: NodeJS.ProcessEnv): string {
  return KUBECONFIG?.split(delimiter).find(Boolean) ?? join(HOME, '.kube/config');
}
