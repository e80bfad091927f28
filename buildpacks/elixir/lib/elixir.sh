# shellcheck shell=bash
# Elixir in a layer.

# Sets version. Debian is asked once a day, so that what it mended gets into the image of the next push.
look_up_version() {
  if [ "$(bp layer "$layers" debian --cache --key "$(date +%F)")" = remake ]; then
    bp apt --candidate elixir erlang-base >"$layers/debian/versions" || fail "Debian's packages cannot be looked up: the line above says why; push again"
  fi
  version=$(sed -nE 's/^elixir ([0-9]+\.[0-9]+\.[0-9]+).*/\1/p' "$layers/debian/versions")
  otp=$(sed -nE 's/^erlang-base (.*:)?([0-9]+).*/\2/p' "$layers/debian/versions")
}

install_elixir() {
  local options=(--build --cache)
  if [ -z "$release" ]; then options+=(--launch); fi
  if [ "$(bp layer "$layers" elixir "${options[@]}" --key "1 $(<"$layers/debian/versions") $release")" = remake ]; then
    bp step "Installing Elixir of Debian $CNB_TARGET_DISTRO_VERSION"
    bp apt "$layers" elixir --run elixir erlang-dev erlang-eunit erlang-eldap erlang-os-mon erlang-ssh erlang-syntax-tools erlang-xmerl >"$log" ||
      fail "Elixir cannot be installed: the line above says why; push again"
    rm -rf "$elixir/etc" "$elixir/var" "$elixir/lib" "$elixir"/usr/{bin,sbin,lib/systemd,lib/sysusers.d,lib/tmpfiles.d}
    # It was made to be in /usr.
    sed -i "s,/usr/lib/erlang,$elixir/usr/lib/erlang,g" "$elixir"/usr/lib/erlang/{bin,erts-*/bin}/{erl,start} "$elixir"/usr/lib/erlang/releases/RELEASES
    bp env "$layers" elixir --prepend "PATH=$elixir/usr/lib/elixir/bin:$elixir/usr/lib/erlang/bin"
  fi
  export PATH=$elixir/usr/lib/elixir/bin:$elixir/usr/lib/erlang/bin:$PATH
}

# Says which Elixir it is and why.
check_version() {
  local asked='' asked_in='' range
  if [ -f .tool-versions ] && asked=$(awk '$1 == "elixir" { print $2; exit }' .tool-versions) && [ -n "$asked" ]; then
    asked_in=.tool-versions
  elif [ -f elixir_buildpack.config ] && asked=$(sed -nE 's/^ *elixir_version *= *v?([0-9.]+).*/\1/p' elixir_buildpack.config) && [ -n "$asked" ]; then
    asked_in=elixir_buildpack.config
  elif asked=$(sed -nE 's/^ *elixir: *"([^"]+)".*/\1/p' mix.exs | head -n 1) && [ -n "$asked" ]; then
    # Three numbers after ~> leave the last one open, two the second.
    range=$(sed -E 's/~> *([0-9]+\.[0-9]+\.[0-9]+)/~\1/g; s/~> *([0-9]+(\.[0-9]+)?)/^\1/g; s/ or / || /g; s/ and / /g; s/-(dev|rc)[0-9.]*//g; s/==//g' <<<"$asked")
    if ! bp semver-max "$range" <<<"$version" >/dev/null; then
      fail "mix.exs asks for Elixir $asked: this stack has only $version; write elixir: \"~> ${version%.*}\", if the app runs on that"
    fi
    bp step "Using Elixir $version on Erlang/OTP $otp (mix.exs: $asked)"
    return
  fi
  asked=${asked%%-otp*}
  if [ -z "$asked" ]; then
    bp step "Using Elixir $version on Erlang/OTP $otp (the stack has this one)"
  elif [[ $version. == "$asked."* || ${asked%.*} == "${version%.*}" ]]; then
    bp step "Using Elixir $version on Erlang/OTP $otp ($asked_in: $asked)"
  else
    bp trouble "$asked_in asks for Elixir $asked, and there is only $version here: the app is built with that; try it with ${version%.*}, and write that into $asked_in"
    bp step "Using Elixir $version on Erlang/OTP $otp (the stack has this one)"
  fi
}
