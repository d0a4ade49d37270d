/**
 * Speaks generic netlink with the kernel's nbd driver, in Perl: Node can open no netlink socket, nbd-client 3.26 can
 * not name the backend, by which the device is found again, and Perl is in every Debian image.
 * Usage: `connect SOCKET EXPORT CONNECTIONS IDENTIFIER TIMEOUT-SECONDS` prints the device's number; `disconnect INDEX`. Numbers are those of linux/nbd-netlink.h, linux/genetlink.h and the NBD protocol's document.
 */
export const nbdNetlinkScript = String.raw`
use strict; use warnings;

my ($action, @arguments) = @ARGV;
my ($CONNECT, $DISCONNECT) = (1, 2);
my ($INDEX, $SIZE, $BLOCK_SIZE, $TIMEOUT, $SERVER_FLAGS, $SOCKETS, $BACKEND) = (1, 2, 3, 4, 5, 7, 10);
my ($SOCK_ITEM, $SOCK_FD) = (1, 1);
my ($FIXED_NEWSTYLE, $NO_ZEROES, $OPT_EXPORT_NAME, $CAN_MULTI_CONN) = (1, 2, 1, 1 << 8);

sub attribute { my ($type, $data) = @_; my $all = pack('SS', 4 + length $data, $type) . $data; $all . "\0" x (-length($all) % 4) }
sub u32 { attribute($_[0], pack 'L', $_[1]) }
sub u64 { attribute($_[0], pack 'Q', $_[1]) }
sub text { attribute($_[0], $_[1] . "\0") }
sub nested { attribute($_[0] | 0x8000, $_[1]) }

socket(my $netlink, 16, 3, 16) or die "netlink: $!\n";
bind($netlink, pack 'SSLL', 16, 0, 0, 0) or die "netlink: $!\n";

# Sends one command and waits for its acknowledgement; returns the attributes that came before it.
sub request {
  my ($family, $command, $attributes) = @_;
  my $body = pack('CCS', $command, 1, 0) . $attributes;
  syswrite($netlink, pack('LSSLL', 16 + length $body, $family, 1 | 4, 1, 0) . $body) // die "netlink: $!\n";
  my %found;
  while (1) {
    sysread($netlink, my $data, 65536) or die "netlink: $!\n";
    while (length $data >= 16) {
      my ($length, $type) = unpack 'LS', $data;
      my $message = substr $data, 16, $length - 16;
      substr($data, 0, ($length + 3) & ~3) = '';
      if ($type == 2) {
        my $error = -unpack 'l', $message;
        return \%found if $error == 0;
        $! = $error;
        die "the kernel refuses to $action: $!\n";
      }
      my $rest = substr $message, 4;
      while (length $rest >= 4) {
        my ($size, $name) = unpack 'SS', $rest;
        $found{$name} = substr $rest, 4, $size - 4;
        last if length $rest <= $size;
        $rest = substr $rest, ($size + 3) & ~3;
      }
    }
  }
}

# The number that the kernel gave its nbd driver's messages.
sub nbd { unpack 'S', request(16, 3, text(2, 'nbd'))->{1} }

sub receive {
  my ($socket, $bytes) = @_;
  my $data = '';
  while (length $data < $bytes) {
    sysread($socket, $data, $bytes - length $data, length $data) or die "the NBD server closed the connection\n";
  }
  $data;
}

# Connects and negotiates; returns socket, size and flags.
sub negotiate {
  my ($path, $export) = @_;
  socket(my $socket, 1, 1, 0) or die "socket: $!\n";
  connect($socket, pack 'SZ*', 1, $path) or die "$path: $!\n";
  my ($magic, $option, $flags) = unpack 'a8a8n', receive($socket, 18);
  die "$path: no NBD server\n" unless $magic eq 'NBDMAGIC' && $option eq 'IHAVEOPT' && $flags & $NO_ZEROES;
  syswrite $socket, pack('NA8NN', $FIXED_NEWSTYLE | $NO_ZEROES, 'IHAVEOPT', $OPT_EXPORT_NAME, length $export) . $export;
  ($socket, unpack 'Q>n', receive($socket, 10));
}

sub connect_device {
  my ($path, $export, $connections, $identifier, $seconds) = @_;
  my ($first, $size, $flags) = negotiate($path, $export);
  my @sockets = ($first);
  while (@sockets < $connections && $flags & $CAN_MULTI_CONN) { push @sockets, (negotiate($path, $export))[0] }
  my $items = join '', map { nested($SOCK_ITEM, u32($SOCK_FD, fileno $_)) } @sockets;
  my $reply = request(nbd(), $CONNECT, u64($SIZE, $size) . u64($BLOCK_SIZE, 512) . u64($SERVER_FLAGS, $flags)
    . u64($TIMEOUT, $seconds) . text($BACKEND, $identifier) . nested($SOCKETS, $items));
  print unpack('L', $reply->{$INDEX}), "\n";
}

if ($action eq 'connect') { connect_device(@arguments) }
elsif ($action eq 'disconnect') { request(nbd(), $DISCONNECT, u32($INDEX, $arguments[0])) }
else { die "unknown action $action\n" }
`;
