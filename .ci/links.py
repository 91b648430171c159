"""Derive every badge, install line and link from `user`, `repo` and `branch` in settings.ini.

Run it after you changed one of them: `python .ci/links.py`.
With `--check` nothing is written, and it exits 1 if something is out of step.
"""
import json, re, sys
from configparser import ConfigParser
from functools import cache
from pathlib import Path

root = Path(__file__).resolve().parent.parent
colab = 'https://colab.research.google.com'
# Extras that the cells of a page need, by how its name begins
EXTRAS = {'lessons/06':'explain', 'lessons/07':'explain', 'lessons/11':'onnx',
          '13':'dicom,oct', '54':'explain', '65':'explain', '66':'dist', '75':'stats', '80':'onnx', '82':'onnx', '83':'onnx',
          '84':'dicom', '85':'onnx', '91':'quiz', '92':'quiz', '93':'quiz,stats', '94':'explain', '95':'app'}

def settings():
    "The settings as a mapping"
    ini = ConfigParser()
    ini.read(root/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']

def notebooks():
    "All notebooks that are ours, index included"
    skip = {'.ipynb_checkpoints', '_proc', '_docs'}
    return [o for o in sorted((root/'nbs').rglob('*.ipynb')) if not skip & set(o.parts)]

def badge(nb, cfg):
    "The badge of the notebook at `nb`, in a cell of its own"
    url = f"{colab}/github/{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/{nb.relative_to(root).as_posix()}"
    return f'[![Open in Colab]({colab}/assets/colab-badge.svg)]({url})'

def extras(nb):
    "The extras that the page at `nb` needs, or none"
    at = nb.relative_to(root/'nbs').as_posix()
    return next((v for k,v in EXTRAS.items() if at.startswith(f'{k}_')), '')

def install(nb, cfg):
    "The hidden cell that installs us and what the page at `nb` needs in Colab, or ends the run with a sentence; it does nothing elsewhere"
    # A process a page is asked for only where there is something to install; a plain import would have the docs build run the cell
    url,log = f"https://github.com/{cfg['user']}/{cfg['repo']}",'/content/log'
    more,lib = extras(nb),cfg['lib_name']
    what = f'"{lib}[{more}] @ git+{url}"' if more else f'git+{url}'
    return f"""#| hide
if __import__('os').path.exists('/content'):
    print("Installing {lib} beside Colab's torch: a minute or two, no restart", flush=True)
    !pip install -Uq {what} >{log} 2>&1
    if _exit_code: raise SystemExit("{lib} is not installed: {log} says why; then run this cell again")"""

def cell_text(src, nb, cfg):
    "What the cell with text `src` should say"
    if re.fullmatch(r'\[!\[Open in Colab\]\(\S+\)\]\(\S+\)\s*', src): return badge(nb, cfg)
    if re.fullmatch(r'#\|\s*hide\n.*/content.*pip install.*git\+\S+.*', src, re.S): return install(nb, cfg)
    return prose(src, cfg)

@cache
def ours():
    "Pattern of the names our repository has or had: as settings.ini and the badges tell"
    cfg,pages = settings(),''.join(o.read_text(encoding='utf-8') for o in notebooks())
    seen = re.findall(rf'Open in Colab\]\(\S+\)\]\({colab}/github/[\w.-]+/([\w.-]+)/blob/[\w.-]+/nbs/', pages)
    return '(?:' + '|'.join(map(re.escape, sorted({cfg['repo'], cfg['lib_path'], *seen}))) + ')'

def prose(text, cfg):
    "`text` with its links to our own repository, docs and Colab notebooks set right"
    user,repo,branch,lib = cfg['user'],cfg['repo'],cfg['branch'],ours()
    text = re.sub(rf'({colab}/github)/[\w.-]+/{lib}/blob/[\w.-]+/', rf'\1/{user}/{repo}/blob/{branch}/', text)
    text = re.sub(rf'(https://github\.com)/[\w.-]+/{lib}/(blob|tree)/[\w.-]+/', rf'\1/{user}/{repo}/\2/{branch}/', text)
    text = re.sub(rf'(https://github\.com)/[\w.-]+/{lib}(?=[/)\s"\'#.,;]|$)', rf'\1/{user}/{repo}', text)
    return re.sub(rf'https://[\w-]+\.github\.io/{lib}(?=[/)\s"\'#.,;]|$)', cfg['doc_host']+cfg['doc_baseurl'], text)

def notebook_text(text, nb, cfg):
    "What the file `nb` should hold, where it holds `text`"
    d = json.loads(text)
    for c in d['cells']: c['source'] = cell_text(''.join(c['source']), nb, cfg).splitlines(True)
    return json.dumps(d, indent=1, ensure_ascii=False, sort_keys=True) + '\n'

def changes(cfg):
    "Pairs of file and wanted text, where they differ"
    docs = [o for o in sorted(root.glob('*.md')) if o.name!='README.md'] # README comes from index.ipynb
    for o in notebooks()+docs:
        old = o.read_text(encoding='utf-8')
        new = notebook_text(old, o, cfg) if o.suffix=='.ipynb' else prose(old, cfg)
        if new!=old and (o.suffix!='.ipynb' or json.loads(new)!=json.loads(old)): yield o,new

def main(check=False):
    found = list(changes(settings()))
    for o,new in found:
        print(f"{o.relative_to(root)}: {'out of step with settings.ini' if check else 'rewritten'}")
        if not check: o.write_text(new, encoding='utf-8')
    return 1 if check and found else 0

if __name__=='__main__': sys.exit(main('--check' in sys.argv[1:]))
