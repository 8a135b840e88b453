#!/usr/bin/env bash
# pygame opens a window that nobody can see, without a word, where DISPLAY names a screen that cannot be reached.
#
# One would expect pygame.display.init() or set_mode() to raise pygame.error, as it does where SDL_VIDEODRIVER=x11 asks
# for the driver by name. Without that variable SDL goes on to its next drivers, and "offscreen", which the wheels
# contain, always works: init and set_mode succeed, the window's surface takes every picture, and no event ever comes. A
# viewer that waits for a key or for the window to be closed runs for ever. A stale DISPLAY is common: ssh -X after the
# connection broke, a container, tmux that outlived its desktop session.
#
# Cure: look at pygame.display.get_driver() after init, and refuse "offscreen" and "dummy" unless they were asked for.
#
# Seen with Python 3.11.7, Linux x86_64, on 2026-11-29. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYGAME_HIDE_SUPPORT_PROMPT=1 PYTHONWARNINGS=ignore
unset SDL_VIDEODRIVER WAYLAND_DISPLAY XDG_RUNTIME_DIR
export DISPLAY=:4242

cat > "$folder/open.py" <<'PY'
import pygame

try:
    pygame.display.init()
    window = pygame.display.set_mode((64, 48))
    window.fill((255, 0, 0))
    pygame.display.flip()
    print(f"a window of {window.get_size()}, driver {pygame.display.get_driver()}")
except pygame.error as error:
    print("pygame.error:", error)
PY
seen=""
for package in pygame==2.6.1 pygame-ce==2.5.8; do
  pip uninstall -q -y pygame pygame-ce 2> /dev/null || true
  pip install -q "$package"
  for driver in unset x11; do
    export SDL_VIDEODRIVER=$driver
    [[ $driver == x11 ]] || unset SDL_VIDEODRIVER
    line="$package, SDL_VIDEODRIVER $driver: $(timeout 60 python "$folder/open.py")"
    echo "$line"
    seen+="$line"$'\n'
  done
done
expected="pygame==2.6.1, SDL_VIDEODRIVER unset: a window of (64, 48), driver offscreen
pygame==2.6.1, SDL_VIDEODRIVER x11: pygame.error: x11 not available
pygame-ce==2.5.8, SDL_VIDEODRIVER unset: a window of (64, 48), driver offscreen
pygame-ce==2.5.8, SDL_VIDEODRIVER x11: pygame.error: x11 not available
"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
