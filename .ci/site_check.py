"""Look over a site that was built: `python .ci/site_check.py _docs`.

A link to a part that its page does not have loses its link and keeps its words: nbdev links every name of ours that stands in
backticks, those that no page documents, too. A link to a page, a picture or a file that is not there is told, and the exit code is 1.
"""
import re, sys
from html.parser import HTMLParser
from pathlib import Path
from posixpath import join, normpath
from urllib.parse import unquote
from links import settings

ANCHOR = re.compile(r'<a\b[^>]*?\bhref="([^"]*#[^"]*)"[^>]*>(.*?)</a>', re.S)

class Page(HTMLParser):
    "The ids of a page, and where its links and pictures lead"
    def __init__(self, text):
        super().__init__()
        self.ids,self.links = set(),[]
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs.get('id'), attrs.get('name') if tag=='a' else None}
        if tag in ('a','img','script','link'): self.links += [o for o in (attrs.get('href'), attrs.get('src')) if o]

class Site:
    "The pages below `top`, by path"
    def __init__(self, top):
        cfg,self.top = settings(),Path(top)
        self.host = f"{cfg['doc_host']}{cfg['doc_baseurl']}/"
        self.texts = {o.relative_to(top).as_posix():o.read_text(encoding='utf-8') for o in sorted(self.top.rglob('*.html'))}
        self.pages = {k:Page(v) for k,v in self.texts.items()}
    def target(self, page, link):
        "Path and part that `link` on `page` leads to; `None` where it leaves the site"
        if link.startswith(self.host): page,link = '',link[len(self.host):]
        elif re.match(r'\w+:|/', link): return None
        path,_,part = link.partition('#')
        path = normpath(join(page.rpartition('/')[0], unquote(path.partition('?')[0]))) if path else page or 'index.html'
        if (self.top/path).is_dir(): path = normpath(join(path, 'index.html'))
        return path,unquote(part)
    def lost_part(self, page, link):
        "Does `link` lead to a part that its page does not have?"
        path,part = self.target(page, link) or ('','')
        return bool(part) and path in self.pages and part not in self.pages[path].ids
    def unlink(self):
        "Take the links to lost parts away, and say how many"
        n = 0
        for k,text in self.texts.items():
            new = ANCHOR.sub(lambda o: o[2] if self.lost_part(k, o[1]) else o[0], text)
            n += len(ANCHOR.findall(text))-len(ANCHOR.findall(new))
            if new!=text: (self.top/k).write_text(new, encoding='utf-8')
        return n
    def broken(self):
        "Page and link of all that leads to what is not there"
        for k,page in self.pages.items():
            for o in dict.fromkeys(page.links):
                if (to := self.target(k, o)) and not (self.top/to[0]).exists(): yield k,o

def main(top):
    site = Site(top)
    if not site.pages: sys.exit(f'{top} holds no page')
    print(f'{len(site.pages)} pages; {site.unlink()} links to parts that are not there were taken away')
    broken = [f'{k}: {o}' for k,o in site.broken()]
    if broken: sys.exit('These lead nowhere:\n'+'\n'.join(broken))

if __name__=='__main__': main(sys.argv[1])
