#!/bin/sh
# build.sh: compiles the libraries that a wheel carries, and prints the folder that they are in: include, lib with pkgconfig,
# licenses. What is there already is left as it is: the folder is named for the sources, this script and the compiler.
#
# Linked into the module, they are its own business alone: no file of the system configures them, no program can add to them,
# and all that the package has no use for is left out. Each choice below says why where that is not plain.
set -eu
cd "$(dirname "$0")/../.."

CC=${CC:-cc} AR=${AR:-ar} RANLIB=${RANLIB:-ranlib}
export CC AR RANLIB
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1580601600}" LC_ALL=C
harden=$(csrc/tools/flags.sh harden $CC)
key=$({ cat csrc/bundle/sources.txt csrc/bundle/build.sh; echo "$harden"; $CC --version; $CC -dumpmachine; } | sha256sum | cut -c1-12)
out=$PWD/build/bundle/$key
if [ -e "$out/done" ]; then
    echo "$out"
    exit 0
fi
csrc/bundle/fetch.sh >&2

work=$out.making
rm -rf "$work" "$out"
mkdir -p "$work/root" "$out/licenses" "$out/patches"
$CC --version | head -n 1 >"$out/compiler"
jobs=$(getconf _NPROCESSORS_ONLN)
# A section for each function: the linker drops those that nobody calls.
export CFLAGS="$harden -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections"

unpack() { # NAME: into $work/NAME, with Debian's patches, whose names go into patches
    dpkg-source -x build/bundle/sources/"$1"_*.dsc "$work/$1" >"$work/$1.log" 2>&1 || { cat "$work/$1.log" >&2; exit 1; }
    series=$work/$1/debian/patches/series
    if [ -e "$series" ]; then sed '/^ *#/d; /^ *$/d' "$series"; fi >"$out/patches/$1"
}

# Nowhere: what the libraries believe to be their place. No path of this machine gets into them, and no file is looked for.
nowhere=/nonexistent

unpack zlib
(
    cd "$work/zlib"
    ./configure --static --prefix="$nowhere"
    make -j"$jobs" libz.a
    make install DESTDIR="$work/root"
    cp LICENSE "$out/licenses/zlib.txt"
) >"$work/zlib.log" 2>&1 || { cat "$work/zlib.log" >&2; exit 1; }

unpack openssl
(
    cd "$work/openssl"
    # no-autoload-config: the system's openssl.cnf is written for another build, and may name providers that are not here.
    # no-atexit: a thread that is in a transfer when the process ends meets no library that is taken down under it.
    # no-module, no-dso: no code is loaded. no-ui-console: nothing prompts on the terminal.
    # Old ciphers and digests that protect key files stay as far as the default provider has them: DES, scrypt.
    ./Configure --prefix="$nowhere" --openssldir="$nowhere" --libdir=lib --release \
        no-shared no-module no-dso no-engine no-legacy no-autoload-config no-atexit no-ui-console \
        no-apps no-tests no-docs no-unit-test no-async no-uplink no-afalgeng no-capieng no-padlockeng \
        no-ssl3 no-ssl3-method no-tls1 no-tls1-method no-tls1_1 no-tls1_1-method no-dgram no-sctp no-srtp no-quic \
        no-comp no-zlib no-brotli no-zstd no-nextprotoneg no-psk no-srp no-ssl-trace no-weak-ssl-ciphers \
        no-cmp no-cms no-ct no-ocsp no-http no-rfc3779 no-ts \
        no-argon2 no-aria no-bf no-blake2 no-camellia no-cast no-ec2m no-gost no-idea no-md4 no-mdc2 no-ocb no-rc2 no-rc4 no-rc5 \
        no-rmd160 no-seed no-siv no-sm2 no-sm3 no-sm4 no-whirlpool no-ml-dsa no-slh-dsa
    make -j"$jobs" build_libs
    make install_dev DESTDIR="$work/root"
    cp LICENSE.txt "$out/licenses/openssl.txt"
) >"$work/openssl.log" 2>&1 || { tail -50 "$work/openssl.log" >&2; exit 1; }

# Their .pc files say where they are meant to be.
place() { sed -i "s|^prefix=.*|prefix=$1|" "$work"/root/$nowhere/lib/pkgconfig/*.pc; }
place "$work/root$nowhere"

unpack curl
(
    cd "$work/curl"
    # configure and its kin are as released; Debian's patches touch what they are made from, which is no reason to make them.
    touch aclocal.m4 && find . -name Makefile.in -exec touch {} + && touch configure lib/curl_config.h.in
    # No authority is built in: csrc/http/cabundle.c finds them. HTTP/1.1 is all that csrc/http asks for, so no nghttp2.
    ./configure --prefix="$nowhere" --disable-shared --enable-static --disable-dependency-tracking --disable-curldebug \
        --with-openssl="$work/root$nowhere" --with-zlib="$work/root$nowhere" --enable-http --enable-ipv6 --enable-proxy \
        --enable-threaded-resolver --enable-http-auth --enable-basic-auth --enable-symbol-hiding \
        --without-ca-bundle --without-ca-path --without-ca-fallback --disable-ca-search --disable-openssl-auto-load-config \
        --disable-ftp --disable-file --disable-ipfs --disable-ldap --disable-ldaps --disable-rtsp --disable-dict \
        --disable-telnet --disable-tftp --disable-pop3 --disable-imap --disable-smb --disable-smtp --disable-gopher \
        --disable-mqtt --disable-websockets --disable-manual --disable-docs --disable-libcurl-option --disable-ares \
        --disable-unix-sockets --disable-cookies --disable-doh --disable-mime --disable-form-api \
        --disable-alt-svc --disable-hsts --disable-httpsrr --disable-ech --disable-ssls-export --disable-sspi --disable-ntlm \
        --disable-digest-auth --disable-bearer-auth --disable-negotiate-auth --disable-kerberos-auth --disable-aws \
        --disable-tls-srp --disable-dnsshuffle --disable-progress-meter --disable-headers-api --disable-get-easy-options \
        --disable-dateparse --disable-bindlocal --disable-sha512-256 \
        --without-brotli --without-zstd --without-libpsl --without-libidn2 --without-libssh2 --without-libssh --without-librtmp \
        --without-nghttp2 --without-nghttp3 --without-ngtcp2 --without-libgsasl --without-gssapi
    make -j"$jobs" -C lib
    make -C lib install DESTDIR="$work/root"
    make -C include install DESTDIR="$work/root"
    make install-pkgconfigDATA DESTDIR="$work/root"
    cp COPYING "$out/licenses/curl.txt"
) >"$work/curl.log" 2>&1 || { tail -50 "$work/curl.log" >&2; exit 1; }

cp -R "$work/root$nowhere/." "$out"
sed -i "s|$work/root$nowhere|$out|g; s|^prefix=.*|prefix=$out|" "$out"/lib/pkgconfig/*.pc
rm -rf "$work"
touch "$out/done"
echo "$out"
