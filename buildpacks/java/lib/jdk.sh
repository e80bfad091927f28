# shellcheck shell=bash
# Debian's JDK and Maven for the build, and the Java runtime made from the JDK for the image.

# $1: a URL, $2: a file, $3: what it is. Downloads it; if that fails, the file $log has the reason in its first line.
download() {
  if ! curl -fL --progress-bar --retry 2 -o "$2" "$1" 2>&1 | tee "$log" | bp progress --hide . --show '([0-9.]+%)' "Downloading $3"; then
    tr '\r' '\n' <"$log" | grep '^curl:' >"$log.reason" || true
    mv "$log.reason" "$log"
    return 1
  fi
}

# $1: 17, 21 or 25. Puts the JDK into a layer, unless it is up to date. Sets version, debian_version, JAVA_HOME and PATH.
install_jdk() {
  local jdk=$layers/jdk found newest debian=$CNB_TARGET_DISTRO_VERSION older=()
  if [ "$1" = 17 ]; then older=(--suite=bookworm) debian=12; fi
  newest=$(bp apt --candidate --daily="$layers" "${older[@]}" "openjdk-$1-jdk-headless" maven)
  if [ "$(bp layer "$layers" jdk --build --cache --key "3 $newest $(bp hash /var/lib/dpkg/status)")" = remake ]; then
    bp step "Installing OpenJDK $1 from Debian $debian"
    bp apt "$layers" jdk --build "${older[@]}" "openjdk-$1-jdk-headless" maven >"$log" || fail "the JDK cannot be installed: the line above says why; push again"
    # Debian's Maven depends on Debian's default Java, which is not needed.
    find "$jdk/usr/lib/jvm" -mindepth 1 -maxdepth 1 ! -name "java-$1-openjdk-*" -exec rm -rf {} +
    ln -s "usr/lib/jvm/$(basename "$jdk/usr/lib/jvm/"*)" "$jdk/home"
    rm -rf "$jdk/home/man" "$jdk/home/legal" "$jdk/home/docs"
    bp env "$layers" jdk --build "JAVA_HOME=$jdk/home"
    bp env "$layers" jdk --build --prepend "PATH=$jdk/home/bin"
    cp "$log" "$jdk/packages"
  fi
  found=$(sed -nE 's/^JAVA_VERSION="(.*)"/\1/p' "$jdk/home/release")
  version=$found debian_version=$(sed -nE "s/^openjdk-$1-jdk-headless (.*)/\1/p" "$jdk/packages")
  export JAVA_HOME=$jdk/home PATH=$jdk/home/bin:$PATH
}

# Sets jvm to the options by which the build's Java reaches registries. None of them is in a layer.
set_jvm_options() {
  local store=$TMPDIR/truststore proxy host
  python3 -I "$here/lib/truststore.py" "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$store"
  # Java reads the home folder from the system's users; that one is not writable here.
  mkdir -p "$HOME"
  jvm=("-Duser.home=$HOME" "-Djavax.net.ssl.trustStore=$store" -Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStoreType=JKS)
  for proxy in http https; do
    host=${proxy^^}_PROXY host=${!host:-}
    if [[ $host =~ ^[a-z]+://([^/@]*@)?([^:/@]+):([0-9]+) ]]; then
      jvm+=("-D$proxy.proxyHost=${BASH_REMATCH[2]}" "-D$proxy.proxyPort=${BASH_REMATCH[3]}")
    fi
  done
  if [ -n "${NO_PROXY:-}" ]; then host=${NO_PROXY//,/|} && jvm+=("-Dhttp.nonProxyHosts=${host//|./|*.}"); fi
  # Builds are too short to gain from the second compiler.
  jvm+=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:MaxRAMPercentage=60)
}

# Puts the Java runtime of the image into a layer, unless it is up to date: the modules of java.se, and those to inspect a running
# app. JAVA_TOOL_OPTIONS and the command line override its built-in options.
install_jre() {
  local jre=$layers/jre fonts compress=zip-6 archive=(--generate-cds-archive)
  # With Java 17's usual collector, no two archives of its classes are equal.
  if [ "$major" = 17 ]; then compress=2 archive=(); fi
  # The key has Debian's version of the JDK, which changes with its patches, too.
  if [ "$(bp layer "$layers" jre --launch --key "3 $debian_version $(bp hash /cnb/run-packages "$here/lib/settings.py" "$here/lib/truststore.py")")" = keep ]; then return; fi
  bp step "Making a Java $version runtime for the image"
  rmdir "$jre"
  local modules
  modules=java.se,java.smartcardio,$(java --list-modules | cut -d @ -f 1 | grep -xE 'jdk\.(attach|charsets|crypto\..*|dynalink|httpserver|jcmd|jdwp.agent|jfr|localedata|management.*|naming.*|net|nio.mapmode|sctp|security.*|unsupported|xml.dom|zipfs)' | paste -sd ,)
  jlink -J-XX:TieredStopAtLevel=1 -J-XX:+UseSerialGC --add-modules "$modules" --output "$jre" --strip-java-debug-attributes --no-man-pages --no-header-files \
    --compress "$compress" "${archive[@]}" --add-options="-XX:MaxRAMPercentage=60 -XX:+ExitOnOutOfMemoryError" >"$log" 2>&1 ||
    { cat "$log" && fail "the Java runtime cannot be made: the lines above say why"; }
  if [ ${#archive[@]} = 0 ]; then "$jre/bin/java" -XX:+UseSerialGC -Xshare:dump >"$log" 2>&1 || { cat "$log" && fail "the Java runtime cannot be made: the lines above say why"; }; fi
  rm -f "$jre/lib/server/classes_nocoops.jsa"
  # The certificates that the run image trusts, without those that only builds trust.
  python3 -I "$here/lib/truststore.py" /etc/ssl/certs/ca-certificates.crt "$jre/lib/security/cacerts"

  # Charts, PDF files and spreadsheets need fonts even without a screen.
  fonts=$(mktemp -d)
  bp apt "$fonts" fonts --run libfontconfig1 libharfbuzz0b liblcms2-2 libgif7 fonts-dejavu-core >"$log" ||
    fail "the fonts cannot be installed: the line above says why; push again"
  find "$fonts/fonts/usr/lib" -name 'lib*.so.*' -exec cp -P {} "$jre/lib/" \;
  mv "$fonts/fonts/usr/share/fonts" "$jre/fonts"
  mkdir "$jre/fonts/etc"
  printf '<?xml version="1.0"?>\n<fontconfig><dir>%s</dir><cachedir>/tmp/fontconfig</cachedir></fontconfig>\n' "$jre/fonts" \
    >"$jre/fonts/etc/fonts.conf"
  bp env "$layers" jre --launch --default "FONTCONFIG_FILE=$jre/fonts/etc/fonts.conf"

  bp env "$layers" jre --launch --default "JAVA_HOME=$jre"
  mkdir "$jre/exec.d"
  cp "$here/lib/settings.py" "$jre/exec.d/settings"
  chmod 755 "$jre/exec.d/settings"
}
