"A site that was built is looked over: links to lost parts go, links to what is not there are told"
import re
import pytest
from house.shared import CFG, ROOT
from site_check import Site, main

HOME = f"{CFG['doc_host']}{CFG['doc_baseurl']}/"

@pytest.fixture
def top(tmp_path):
    (tmp_path/'lessons').mkdir()
    (tmp_path/'pic.png').write_bytes(b'x')
    (tmp_path/'index.html').write_text(f'<h2 id="one">1</h2><p>See <a class="x" href="#one">one</a>, <a href="{HOME}core.html#few"><code>few</code></a>, '
                                       f'<a href="lessons/01.html#a%20b">there</a>, <a href="https://doi.org/1#z">out</a>, <a href="{HOME}core.html#say">say</a>.')
    (tmp_path/'core.html').write_text('<h3 id="say">say</h3><a href="./index.html">home</a><img src="pic.png">')
    (tmp_path/'lessons'/'01.html').write_text('<a name="a b"></a><a href="../index.html#two">two</a><img src="../pic.png?v=2"><img src="data:image/png;base64,x"><a href="/">/</a>')
    return tmp_path

def test_links_to_lost_parts_keep_their_words(top, capsys):
    main(top)
    assert '3 pages; 2 links' in capsys.readouterr().out
    index = (top/'index.html').read_text()
    assert ', <code>few</code>, ' in index and len(re.findall('<a ', index))==4
    assert (top/'lessons'/'01.html').read_text().startswith('<a name="a b"></a>two<img')
    assert Site(top).unlink()==0

@pytest.mark.parametrize('lost', ['pic.png','core.html','lessons/01.html'])
def test_what_is_not_there_is_told(top, lost):
    (top/lost).unlink()
    with pytest.raises(SystemExit) as e: main(top)
    assert lost.split('/')[-1] in str(e.value) and str(e.value).startswith('These lead nowhere:')

def test_no_page_is_no_site(tmp_path):
    with pytest.raises(SystemExit, match='holds no page'): main(tmp_path)
