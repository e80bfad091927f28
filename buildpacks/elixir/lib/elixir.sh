# shellcheck shell=bash
# Which Elixir the app asks for, and its installation. Debian has one version, the Debian before another.

# Sets asked and asked_in (the version asked for, and the file), range (that of mix.exs, as npm writes it), series, packages, older
# (options of bp apt) and debian.
read_asked() {
  asked='' asked_in='' range=''
  local named
  named=$(bp named-version .elixir-version .exenv-version --tool elixir) || [ $? = 1 ] || exit 1
  if [ -n "$named" ]; then
    IFS=$'\t' read -r asked asked_in <<<"$named"
  elif [ -f elixir_buildpack.config ] && asked=$(buildpack_setting elixir_version) && [ -n "$asked" ]; then
    asked_in=elixir_buildpack.config
  elif asked=$(sed -nE 's/^ *elixir: *"([^"]+)".*/\1/p' mix.exs | head -n 1) && [ -n "$asked" ]; then
    asked_in=mix.exs
    # After ~>, the last of three numbers may be higher, or the second of two.
    range=$(sed -E 's/~> *([0-9]+\.[0-9]+\.[0-9]+)/~\1/g; s/~> *([0-9]+(\.[0-9]+)?)/^\1/g; s/ or / || /g; s/ and / /g; s/-(dev|rc)[0-9.]*//g; s/==//g' <<<"$asked")
  fi
  asked=${asked%%-otp*}
  if [ -n "$asked" ] && [[ ! $asked =~ ^[0-9] && -z $range ]]; then
    bp trouble "\"$asked\" is not a version of Elixir ($asked_in), and the default is used: write a number such as 1.18 there"
    asked=''
  fi
  series=1.18 older=() debian=$CNB_TARGET_DISTRO_VERSION
  packages=(elixir erlang-dev erlang-eunit erlang-eldap erlang-os-mon erlang-ssh erlang-syntax-tools erlang-xmerl)
  if needs_older; then
    series=1.14 older=(--suite=bookworm) debian=12
    # All packages have to be of the same version.
    packages+=(erlang-{base,crypto,mnesia,asn1,public-key,runtime-tools,ssl,inets,ftp,tftp,snmp,parsetools,tools})
    packages=("${packages[@]/%/=bookworm}")
  fi
}

# $1: a setting of elixir_buildpack.config. Prints its value.
buildpack_setting() {
  sed -nE "s/^ *$1 *= *[\"']?v?([^\"' #]+).*/\1/p" elixir_buildpack.config | head -n 1
}

# Reports that another Erlang/OTP is used than the one that the app asks for. There is one for each Elixir.
check_otp() {
  local named named_in
  named=$(bp named-version .erlang-version --tool erlang) || [ $? = 1 ] || exit 1
  IFS=$'\t' read -r named named_in <<<"$named"
  if [ -z "$named" ] && [ -f elixir_buildpack.config ]; then named=$(buildpack_setting erlang_version) named_in=elixir_buildpack.config; fi
  named=${named#OTP-}
  if [ -n "$named" ] && [ "${named%%.*}" != "$otp" ]; then
    bp trouble "$named_in asks for Erlang/OTP $named, but Elixir ${version%.*} runs on $otp here: test the app with that, and write $otp there"
  fi
}

needs_older() {
  if [ -n "$range" ]; then
    ! in_range 1.18 && in_range 1.14
  else
    [[ $asked. =~ ^1\.([0-9]+)\. ]] && [ "${BASH_REMATCH[1]}" -le 14 ]
  fi
}

# $1: a series of Elixir. Whether the range of mix.exs includes a version of it.
in_range() {
  seq -f "$1.%.0f" 0 99 | bp semver-max "$range" >/dev/null 2>&1
}

# Sets newest (the packages in Debian with their versions), version (of Elixir) and otp.
look_up_version() {
  newest=$(bp apt --candidate --daily="$layers" "${older[@]}" "elixir${older[*]:+=bookworm}" "erlang-base${older[*]:+=bookworm}")
  version=$(sed -nE 's/^elixir ([0-9]+\.[0-9]+\.[0-9]+).*/\1/p' <<<"$newest")
  otp=$(sed -nE 's/^erlang-base (.*:)?([0-9]+).*/\2/p' <<<"$newest")
}

install_elixir() {
  local options=(--build --cache)
  if [ -z "$release" ]; then options+=(--launch); fi
  if [ "$(bp layer "$layers" elixir "${options[@]}" --key "1 $newest $release")" = remake ]; then
    bp step "Installing Elixir from Debian $debian"
    bp apt "$layers" elixir --run "${older[@]}" "${packages[@]}" >"$log" ||
      fail "Elixir cannot be installed: the line above says why; push again"
    rm -rf "$elixir/etc" "$elixir/var" "$elixir/lib" "$elixir"/usr/{bin,sbin,lib/systemd,lib/sysusers.d,lib/tmpfiles.d}
    # It is built for /usr.
    sed -i "s,/usr/lib/erlang,$elixir/usr/lib/erlang,g" "$elixir"/usr/lib/erlang/{bin,erts-*/bin}/{erl,start} "$elixir"/usr/lib/erlang/releases/RELEASES
    bp env "$layers" elixir --prepend "PATH=$elixir/usr/lib/elixir/bin:$elixir/usr/lib/erlang/bin"
  fi
  export PATH=$elixir/usr/lib/elixir/bin:$elixir/usr/lib/erlang/bin:$PATH
}

# Reports which Elixir is used, and why. Ends the build if the range of mix.exs excludes it.
check_version() {
  local why="$asked_in: $asked"
  if [ -n "$range" ]; then
    bp semver-max "$range" <<<"$version" >/dev/null ||
      fail "mix.exs asks for Elixir $asked: this stack has only 1.14.0 and 1.18; write elixir: \"~> ${version%.*}\", if the app runs on that"
  elif [ -z "$asked" ]; then
    why="the default"
  elif [[ $version. != "$asked."* && ${asked%.*} != "${version%.*}" ]]; then
    bp trouble "$asked_in asks for Elixir $asked, but only 1.14 and 1.18 are available: the app is built with $version;" \
      "test it with ${version%.*}, and write that into $asked_in"
    why="the nearest available"
  fi
  bp step "Using Elixir $version on Erlang/OTP $otp ($why)"
  check_otp
}
