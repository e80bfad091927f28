# shellcheck shell=bash
# Which folder is served, and why. Needs lib/package.sh.

# Whether the app has a file that names the folder to serve.
has_site_config() {
  [ -f static.json ] || [ -f Staticfile ]
}

# Prints the folder that static.json or the Staticfile names, or the default of the platform that the file is for.
site_config_root() {
  local root
  if [ -f static.json ]; then
    root=$(bp json static.json root public_html) || exit 1
  else
    root=$(sed -nE 's/^root: *["'\'']?([^"'\'' #]+).*/\1/p' Staticfile | tail -n 1)
  fi
  root=${root%/}
  echo "${root:-.}"
}

has_c_sources() {
  [ -n "$(find . -maxdepth 2 \( -path './*/*' ! -path './src/*' \) -prune -o \( -name '*.c' -o -name '*.cpp' -o -name '*.cc' -o -name CMakeLists.txt -o -name meson.build \) -print -quit)" ]
}

# Prints the first of the usual folders that has an index.html.
folder_with_index() {
  local dir
  for dir in . public dist build _site out www docs site html htdocs public_html; do
    if [ -f "$dir/index.html" ]; then
      # A project in C can have pages, such as its manual.
      if [ "$dir" != . ] && [ "$dir" != public ] && has_c_sources; then return; fi
      echo "$dir"
      return
    fi
  done
}

# Whether there are pages, but no index.html in one of the usual folders. Sets problem to what to do about it.
find_misplaced_page() {
  local page
  problem=""
  if [ -f Procfile ] || [ -f Makefile ]; then return 1; fi
  if ! compgen -G '*.[hH][tT][mM]*' >/dev/null && ! compgen -G '*/index.html' >/dev/null; then return 1; fi
  if has_c_sources; then return 1; fi
  page=$(find . -maxdepth 1 -iname 'index.htm*' -o -maxdepth 1 -iname 'default.htm*' -o -maxdepth 1 -iname 'home.htm*' | sort | head -n 1)
  if [ -z "$page" ]; then page=$(find . -maxdepth 1 -name '*.html' ! -name 404.html | sort | head -n 1); fi
  if [ -n "$page" ]; then
    problem="there is no index.html, which is the page at the address /: rename ${page#./} (git mv ${page#./} index.html) and push again"
    return
  fi
  page=$(find . -mindepth 2 -maxdepth 2 -name index.html ! -path './.*' | sort | head -n 1)
  if [ -z "$page" ]; then return 1; fi
  page=$(dirname "${page#./}")
  # A project of its own has to be built first: the error for an app that no buildpack takes names such folders.
  if [ -f "$page/package.json" ]; then return 1; fi
  problem="index.html is in $page/: to serve that folder, commit a file static.json, {\"root\": \"$page\"}, or build that folder with builds:set APP dir $page"
}

# Whether the files are sources for a site generator that is not available here. Sets generator to its name, command to what runs it, and
# output to the folder that it writes.
generator() {
  generator=""
  if [ -f _config.yml ] && { [ -d _posts ] || [ -d _layouts ] || [ -d _includes ] || [ -f index.md ] || [ -f index.markdown ] || grep -qs '^---' index.html; }; then
    generator=Jekyll output=_site command="jekyll build"
  elif compgen -G 'hugo.*' >/dev/null || [ -d config/_default ] ||
    { compgen -G 'config.*' >/dev/null && [ -d content ] && { [ -d themes ] || [ -d layouts ] || [ -d archetypes ]; }; }; then
    generator=Hugo output=public command=hugo
    if [ -f config.toml ] && [ -d templates ] && [ ! -d layouts ]; then generator=Zola command="zola build"; fi
  elif [ -f mkdocs.yml ]; then
    generator=MkDocs output=site command="mkdocs build"
  elif [ -f book.toml ]; then
    generator=mdBook output=book command="mdbook build"
  elif [ -f _quarto.yml ]; then
    generator=Quarto output=_site command="quarto render"
  fi
  [ -n "$generator" ]
}

# $1: the build script. Prints the folder that it or the configuration of its tool names, if they name one.
configured_root() {
  local text file dir pattern root=""
  # Options of the build script win over files.
  text=$(package "scripts.$1")
  dir=$(grep -oE -- '(--out-?dir|--dist-dir|--output-path|--output|--dest|--dir|-o|-d)[ =][^ ;&]+' <<<"$text" | tail -n 1 | sed -E 's/^[^ =]+[ =]//')
  if [ -n "$dir" ]; then
    echo "${dir%/}"
    return
  fi
  pattern="s@.*\b(outDir|outputDir|outputPath|distDir|buildDir|output|base|pages)[\"']?: *[\"'\`]([^\"'\`\$]+)[\"'\`].*@\2@p"
  for file in vite.config.* vue.config.* astro.config.* rsbuild.config.* eleventy.config.* .eleventy.* docusaurus.config.* next.config.* angular.json svelte.config.*; do
    if [ ! -f "$file" ]; then continue; fi
    case $file in
      vite.*) root=$(grep -vE '^ *//' "$file" | sed -nE "s@.*\broot: *[\"']([^\"']+)[\"'].*@\1@p" | head -n 1) ;;
    esac
    while IFS= read -r dir; do
      if [ -n "$root" ] && [ -d "$root/$dir" ]; then dir=$root/$dir; fi
      dir=${dir#./}
      if [ -d "$dir" ]; then
        echo "${dir%/}"
        return
      fi
    done < <(grep -vE '^ *//' "$file" | sed -nE "$pattern")
  done
}

# $1: the build script. Prints the folder that it has made: the configured one, the default of a tool, or any that is newer
# than package.json and has an index.html.
built_root() {
  local dir
  for dir in "$(configured_root "$1")" dist build out .output/public _site docs/.vitepress/dist .vitepress/dist \
    docs/.vuepress/dist .vuepress/dist src/.vuepress/dist storybook-static dist/spa dist/public dist/client build/client www docs/dist; do
    if [ -z "$dir" ]; then continue; fi
    # Angular makes a folder for each project, and in it one for browsers.
    for dir in "$dir" "$dir/browser" "$dir"/*/browser "$dir"/*; do
      if [ -f "$dir/index.html" ] || [ -f "$dir/index.csr.html" ]; then
        if [[ $dir == */server ]]; then continue; fi
        echo "$dir"
        return
      fi
    done
  done
  # Gatsby, Hexo and others make public/; for Create React App it is a folder of sources.
  find . \( -name node_modules -o -name '.git' \) -prune -o -name index.html -newer package.json -printf '%d %P\n' |
    sort -n | sed -nE '1s@^[0-9]+ (.*/)?index.html$@./\1@p' | sed 's@/$@@'
}
