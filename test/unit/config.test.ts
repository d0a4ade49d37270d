import { CommanderError } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readConfig } from '../../src/config/read-config.ts';

const defaults = { nodeName: 'here', version: '1.2.3' };
const read = (line: string, environment: NodeJS.ProcessEnv = {}) =>
  readConfig(['node', 'lamina', ...line.split(' ').filter(Boolean)], environment, defaults);

describe('the command line', () => {
  let printed = '';
  beforeEach(() => {
    printed = '';
    const print = (text: string | Uint8Array) => {
      printed += String(text);
      return true;
    };
    vi.spyOn(process.stdout, 'write').mockImplementation(print);
    vi.spyOn(process.stderr, 'write').mockImplementation(print);
  });
  afterEach(() => vi.restoreAllMocks());

  it('of standalone needs only a pool and a socket', () => {
    expect(read('standalone --pool /p --socket /s')).toEqual({
      role: 'standalone',
      pool: '/p',
      socket: '/s',
      runDir: '/run/lamina',
      nodeName: 'here',
      logLevel: 'info',
      reservedFraction: 0,
      criticalFraction: 0.02,
      overcommit: 2,
      longestPauseSeconds: 600,
      metricsSocket: null,
      killAt: null,
    });
  });

  it('of controller and node finds the API server as a pod does', () => {
    const environment = { KUBERNETES_SERVICE_HOST: '10.0.0.1', KUBERNETES_SERVICE_PORT: '443' };
    const cluster = { inCluster: { host: '10.0.0.1', port: '443' }, kubeconfig: null, namespace: null };
    expect(read('controller --socket /s --identity me', environment)).toEqual({
      role: 'controller',
      socket: '/s',
      identity: 'me',
      metricsListen: null,
      orphanGraceSeconds: 600,
      logLevel: 'info',
      killAt: null,
      ...cluster,
    });
    expect(read('node --socket /s --pool a=/p --pool fast=/q --namespace n', environment)).toEqual({
      role: 'node',
      nodeName: 'here',
      socket: '/s',
      pools: [
        { name: 'a', directory: '/p' },
        { name: 'fast', directory: '/q' },
      ],
      runDir: '/run/lamina',
      metricsListen: null,
      heartbeatSeconds: 60,
      transferListen: null,
      transferAddress: null,
      transferRate: Number.POSITIVE_INFINITY,
      exportListen: null,
      exportAddress: null,
      exportPod: null,
      imports: 2,
      importRate: Number.POSITIVE_INFINITY,
      reservedFraction: 0,
      criticalFraction: 0.02,
      overcommit: 2,
      longestPauseSeconds: 600,
      logLevel: 'info',
      killAt: null,
      ...cluster,
      namespace: 'n',
    });
  });

  it.each([
    ['10.0.0.5:9443', '10.0.0.5:9443'],
    ['fd00:10:244::5:9443', '[fd00:10:244::5]:9443'],
    ['[fd00:10:244::5]:9443', '[fd00:10:244::5]:9443'],
    ['node.example.org:9443', 'node.example.org:9443'],
  ])('takes %s for an address that others are told, as Kubernetes gives that of a pod', (given, told) => {
    const options = `--transfer-address ${given} --export-address ${given}`;
    expect(read(`node --socket /s --pool a=/p ${options}`)).toMatchObject({
      transferAddress: told,
      exportAddress: told,
    });
  });

  it('takes fractions as numbers and as percentages, and no pause at all', () => {
    expect(
      read('standalone --pool /p --socket /s --reserved 5% --critical 0.1 --overcommit 10 --longest-pause 0'),
    ).toMatchObject({
      reservedFraction: 0.05,
      criticalFraction: 0.1,
      overcommit: 10,
      longestPauseSeconds: 0,
    });
  });

  it('cannot be changed once it is read', () => {
    const config = read('tree /p --json');
    expect(config).toEqual({ role: 'tree', pool: '/p', json: true });
    expect(() => Object.assign(config, { pool: '/q' })).toThrow(TypeError);
  });

  it.each([
    ['', 'Usage: lamina'],
    ['standalone --socket /s', "required option '--pool <dir>'"],
    ['standalone --pool /p --socket /s --overcommit 0.5', 'a number of at least 1'],
    ['standalone --pool /p --socket /s --reserved 120%', 'a fraction from 0 to below 1'],
    ['standalone --pool /p --socket /s --reserved=', 'a fraction from 0 to below 1'],
    ['node --socket /s --pool a=/p --critical %', 'a fraction from 0 to below 1'],
    ['standalone --pool /p --socket /s --log-level loud', 'Allowed choices are debug'],
    ['node --socket /s --pool a=/p --node-name a/b', 'the value of a label'],
    [`standalone --pool /p --socket /s --node-name ${'n'.repeat(64)}`, 'at most 63'],
    ['standalone --pool /p --socket /s --frob', "unknown option '--frob'"],
    ['engine --idle-exit-seconds -1', 'a whole number of seconds'],
    ['node --socket /s', "required option '--pool <name=dir>'"],
    ['node --socket /s --pool /p', 'NAME=DIR is wanted'],
    ['node --socket /s --pool a=/p --pool a=/q', 'a name and a directory of its own'],
    ['controller', "required option '--socket <path>'"],
    ['frob', "unknown command 'frob'"],
    ['check', "missing required argument 'pool'"],
    ['kubectl', 'Usage: lamina kubectl'],
    ['kubectl why', "missing required argument 'claim'"],
    ['kubectl why pod/data', 'NAME of a PersistentVolumeClaim is wanted'],
    ['kubectl export pvc/data', 'volumesnapshot/NAME or disksnapshot/NAME'],
    ['kubectl export a --format vmdk', 'Allowed choices are qcow2, raw'],
    ['kubectl upload file', "missing required argument 'name'"],
    ['node --socket /s --pool a=/p --transfer-rate 1', 'at least 1Mi'],
  ])('refuses %j and says why', (line, words) => {
    expect(() => read(line)).toThrow(CommanderError);
    expect(printed).toContain(words);
  });

  it.each(['standalone', 'controller', 'node', 'engine', 'tree', 'check', 'kubectl'])(
    'explains %s with --help',
    (command) => {
      expect(() => read(`${command} --help`)).toThrow(expect.objectContaining({ exitCode: 0 }));
      expect(printed).toContain(`Usage: lamina ${command}`);
    },
  );

  it('of kubectl finds the kubeconfig where kubectl does', () => {
    const kubeconfig = '/home/me/.kube/config';
    expect(read('kubectl pools', { HOME: '/home/me' })).toEqual({
      role: 'kubectl',
      kubeconfig,
      namespace: null,
      task: { kind: 'pools' },
    });
    expect(read('kubectl tree -n media', { HOME: '/home/me', KUBECONFIG: ':/a:/b' })).toMatchObject({
      kubeconfig: '/a',
      namespace: 'media',
      task: { kind: 'tree' },
    });
    expect(read('kubectl why pvc/data', {})).toMatchObject({ task: { kind: 'why', claim: 'data' } });
    expect(read('kubectl why data --kubeconfig /c', { KUBECONFIG: '/a' })).toMatchObject({
      kubeconfig: '/c',
      task: { kind: 'why', claim: 'data' },
    });
  });

  it('of kubectl knows what is to be taken out, and what is brought in', () => {
    const how = { address: null, serviceAccount: null };
    expect(read('kubectl export debian', {})).toMatchObject({
      namespace: null,
      task: { kind: 'export', resource: 'diskimages', name: 'debian', format: 'qcow2', output: 'debian.qcow2', ...how },
    });
    const args = '-n media -o - --format raw --service-account backup --address 127.0.0.1:9444';
    expect(read(`kubectl export volumesnapshot/data ${args}`, {})).toMatchObject({
      namespace: 'media',
      task: {
        kind: 'export',
        resource: 'volumesnapshots',
        name: 'data',
        format: 'raw',
        output: '-',
        address: '127.0.0.1:9444',
        serviceAccount: 'backup',
      },
    });
    expect(read('kubectl upload debian.qcow2 debian -n media', {})).toMatchObject({
      namespace: 'media',
      task: { kind: 'upload', file: 'debian.qcow2', name: 'debian', ...how },
    });
  });

  it('takes the step that tests kill at from the environment', () => {
    expect(read('standalone --pool /p --socket /s', { LAMINA_KILL_AT: 'collect/layer-removed' })).toMatchObject({
      killAt: 'collect/layer-removed',
    });
  });
});
