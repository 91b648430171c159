"""Write nbs/sidebar.yml: the lessons, then a section for each room, its pages in the order of their numbers.

With `--check` nothing is written, and it exits 1 if the file is out of step.
"""
import re, sys
from links import notebooks, root

# Room -> what its section is called; the pages of other modules stand between the sections, by number
rooms = {'phantom':'Phantoms', 'image':'Images', 'score':'Scores', 'data':'Data', 'vision':'Nets', 'explain':'Explanations', 'run':'Runs',
         'anatomy':'Anatomy', 'ship':'To take along', 'quiz':'Quiz', 'app':'App'}

def section(page):
    "The heading under which `page`, a path relative to nbs, stands, or `None`"
    if page.startswith('lessons/'): return 'Lessons'
    m = re.match(r'\d+_(\w+)\.', page)
    return rooms.get(m[1]) if m else None

def order(page): return page!='index.ipynb', page!='results.ipynb', not page.startswith('lessons/'), page

def render():
    "The text of sidebar.yml"
    rows,last = ['website:', '  sidebar:', '    contents:'],None
    for page in sorted((o.relative_to(root/'nbs').as_posix() for o in notebooks()), key=order):
        now = section(page)
        if now and now!=last: rows += [f'    - section: {now}', '      contents:']
        rows.append(f"    {'  '*bool(now)}- {page}")
        last = now
    return '\n'.join(rows)+'\n'

def main(check=False):
    file,text = root/'nbs/sidebar.yml',render()
    stale = not file.exists() or file.read_text(encoding='utf-8')!=text
    if stale: print(f"nbs/sidebar.yml: {'out of step with the pages: run python .ci/sidebar.py' if check else 'written'}")
    if stale and not check: file.write_text(text, encoding='utf-8')
    return 1 if check and stale else 0

if __name__=='__main__': sys.exit(main('--check' in sys.argv[1:]))
