"Documents as people have them: PDF files of odd fonts, bad bytes, links, ten formats, control tokens, copies."

import base64
import json
import os
import random
import sys
import zipfile
import zlib

import pytest

from preflexor_lab.corpus.characters import MARK, plain_characters, search_form
from preflexor_lab.corpus.index import build_index
from preflexor_lab.corpus.near_duplicates import near_duplicates
from preflexor_lab.corpus.reading import load_documents
from preflexor_lab.tasks.cloze import section_split, sections_of
from preflexor_lab.text.control import break_control_tokens, control_tokens

HELVETICA = "/Subtype/Type1/BaseFont/Helvetica"
NO_NAME = "/Encoding<</Type/Encoding/Differences[1/g1]>>"  # glyph 1 has a name that nobody knows


def write_pdf(path, *pages, font=HELVETICA, extra=()):
    "A PDF of content streams, a page each, with one font /F1, and further objects from number 4 on."
    first = 4 + len(extra)
    kids = [first + 2 * i for i in range(len(pages))]
    listed = " ".join(f"{k} 0 R" for k in kids)
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Count {len(pages)}/Kids[{listed}]>>"]
    objects += [f"<</Type/Font{font}>>", *extra]
    for k, content in zip(kids, pages):
        resources = "/Resources<</Font<</F1 3 0 R>>/XObject<</I1 4 0 R>>>>"
        objects.append(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]{resources}/Contents {k + 1} 0 R>>")
        objects.append(f"<</Length {len(content)}>>stream\n{content}\nendstream")
    data, places = b"%PDF-1.7\n", []
    for number, item in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{item}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = f"<</Size {len(objects) + 1}/Root 1 0 R>>"
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer{size}\nstartxref\n{len(data)}\n%%EOF\n"
    path.write_bytes(data + end.encode())
    return path


def lines(*texts):
    return "BT /F1 12 Tf 50 750 Td 14 TL " + " ".join(f"({t}) '" for t in texts) + " ET"


def stream(text, head=""):
    return f"<<{head}/Length {len(text)}>>stream\n{text}\nendstream"


def to_unicode(table):
    "A ToUnicode map of codes of one byte."
    body = "\n".join(f"<{code:02x}> <{text.encode('utf-16-be').hex()}>" for code, text in table.items())
    head = "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def"
    space = "1 begincodespacerange <00> <ff> endcodespacerange"
    return stream(f"{head} {space} {len(table)} beginbfchar\n{body}\nendbfchar endcmap end end")


def mapped(path, content, table):
    "A PDF whose font maps codes to what `table` says, and the rest to itself."
    plain = {ord(c): c for c in "abcdefghijklmnopqrstuvwxyz0123456789 .-"}
    font = f"{HELVETICA}/ToUnicode 4 0 R"
    return write_pdf(path, lines(content), font=font, extra=[to_unicode(plain | table)])


def texts_of(folder, **options):
    return {d.source: d.text for d in load_documents(folder, **options)[0]}


def reasons(folder, **options):
    return {p.path: p.reason for p in load_documents(folder, **options)[1]}


TYPED = [  # what the glyphs @ A B stand for, what a reader types
    ("e@cient", {64: "ﬃ"}, "efficient"),
    ("@lm and A", {64: "ﬁ", 65: "ﬂux"}, "film and flux"),
    ("x1@x2", {64: "−"}, "x1-x2"),
    ("state@of@the@art", {64: "‐"}, "state-of-the-art"),
    ("co@ordinate", {64: "\u00ad"}, "coordinate"),
    ("10@m", {64: "\u00a0"}, "10 m"),
    ("5@10", {64: "\u2009"}, "5 10"),
    ("10@ m", {64: "²"}, "10² m"),
    ("@ = 3", {64: "𝑥"}, "x = 3"),
    ("2@ helix", {64: "\uf061"}, "2α helix"),
    ("5 @ 2", {64: "\uf0b1"}, "5 ± 2"),
    ("@ eins", {64: "\uf731"}, "1 eins"),
    ("f@ur", {64: "¨"}, "für"),
    ("@b", {64: "\ue7aa"}, MARK + "b"),
    ("x1@x2", {64: "\u0000"}, f"x1{MARK}x2"),
]


@pytest.mark.parametrize("content, table, typed", TYPED)
def test_a_pdf_says_what_a_reader_types(tmp_path, content, table, typed):
    mapped(tmp_path / "a.pdf", content + " and more of it", table)
    assert typed in texts_of(tmp_path)["a.pdf"]


@pytest.mark.parametrize(
    "font, content, expected, said",
    [
        (HELVETICA, "x1\\001x2", f"x1{MARK}x2", "1 glyphs on page 1"),
        (HELVETICA + NO_NAME, "x1\\001x2", f"x1{MARK}x2", "1 glyphs on page 1"),
        (HELVETICA + "/Encoding<</Type/Encoding/Differences[1/minus]>>", "x1\\001x2", "x1-x2", None),
    ],
)
def test_a_glyph_without_a_letter_is_a_mark(tmp_path, font, content, expected, said):
    write_pdf(tmp_path / "a.pdf", lines(content), font=font)
    documents, problems = load_documents(tmp_path)
    assert documents[0].text == expected
    assert (said in problems[0].reason) if said else not problems


@pytest.mark.parametrize(
    "broken, whole",
    [
        (["state-of-", "the-art"], "state-of-the-art"),
        (["an X-", "ray"], "an X-ray"),
        (["Navier-", "Stokes"], "Navier-Stokes"),
        (["a com-", "posite"], "a composite"),
        (["DNA-", "binding"], "DNA-binding"),
        (["carbon-", "based"], "carbon-based"),
        (["self-", "assembly"], "self-assembly"),
        (["three-", "dimensional"], "three-dimensional"),
        (["1990-", "2000"], "1990-2000"),
        (["long-lived and long-", "lived"], "long-lived and long-lived"),
        (["nonlinear, non-", "linear"], "nonlinear, nonlinear"),
        (["x -", "3"], "x -\n3"),
    ],
)
def test_hyphens_at_the_end_of_a_line(tmp_path, broken, whole):
    write_pdf(tmp_path / "a.pdf", lines(*broken))
    assert texts_of(tmp_path)["a.pdf"] == whole


SUP, SUB, BACK = "/F1 8 Tf 5 Ts", "/F1 8 Tf -2 Ts", "0 Ts /F1 12 Tf"


@pytest.mark.parametrize(
    "parts, expected",
    [
        (f"(10) Tj {SUP} (-5) Tj {BACK} ( mol) Tj", "10^-5 mol"),
        (f"(10) Tj {SUP} (2) Tj {BACK} ( K) Tj", "10^2 K"),
        (f"(H) Tj {SUB} (2) Tj {BACK} (O) Tj", "H2O"),
        (f"(K) Tj {SUB} (a) Tj {BACK} ( = 3) Tj", "K_a = 3"),
        (f"(SO) Tj {SUB} (4) Tj {SUP} (2-) Tj {BACK} ( ions) Tj", "SO4^2- ions"),
        ("(S) Tj /F1 9 Tf (MALL) Tj /F1 12 Tf ( CAPS) Tj", "SMALL CAPS"),
    ],
)
def test_scripts_of_a_pdf(tmp_path, parts, expected):
    write_pdf(tmp_path / "a.pdf", f"BT /F1 12 Tf 50 700 Td {parts} ET")
    assert texts_of(tmp_path)["a.pdf"] == expected


PICTURE = stream("\xff", "/Type/XObject/Subtype/Image/Width 1/Height 1/ColorSpace/DeviceGray/BitsPerComponent 8")
PROSE = "bone is a composite of a protein and a mineral that stops every crack where the chain holds " * 3


def shift(text):
    "Each letter 29 codes lower, as in a subset of a TrueType font that says nothing."
    return "".join(c if c == " " else f"\\{ord(c) - 29:03o}" for c in text)


@pytest.mark.parametrize(
    "pages, kept, said",
    [
        (["q 500 0 0 700 50 50 cm /I1 Do Q"], "", "page 1 without text, perhaps scanned"),
        ([lines(PROSE), "q 500 0 0 700 50 50 cm /I1 Do Q"], "bone", "page 2 without text, perhaps scanned"),
        ([lines(PROSE), "", lines(shift(PROSE))], "bone", "page 3 left out"),
        ([lines("\\001\\002\\003\\004" * 30), lines(PROSE)], "bone", "page 1 left out"),
        ([""], "", "no text in it"),
    ],
)
def test_pages_without_words_are_reported(tmp_path, pages, kept, said):
    (tmp_path / "z.txt").write_text("Silk is strong.")
    write_pdf(tmp_path / "a.pdf", *pages, extra=[PICTURE])
    assert said in reasons(tmp_path)["a.pdf"]
    assert texts_of(tmp_path).get("a.pdf", "")[:4] == kept


@pytest.mark.parametrize("algorithm", ["RC4-40", "RC4-128", "AES-128", "AES-256-R5", "AES-256"])
@pytest.mark.parametrize("user", ["", "secret"])
def test_encrypted_pdfs(tmp_path, algorithm, user):
    pypdf = pytest.importorskip("pypdf")
    if algorithm.startswith("AES"):
        pytest.importorskip("cryptography", reason="pypdf writes AES with it; nothing is needed to read it")
    (tmp_path / "z.txt").write_text("Silk is strong.")
    writer = pypdf.PdfWriter(clone_from=write_pdf(tmp_path / "plain.pdf", lines("Bone is tough.")))
    writer.encrypt(user, "owner", algorithm=algorithm)
    writer.write(tmp_path / "plain.pdf")
    if user:
        assert "encrypted with a password" in reasons(tmp_path)["plain.pdf"]
    else:
        assert texts_of(tmp_path)["plain.pdf"] == "Bone is tough."


AES = {  # written with an empty password by pypdf and cryptography, neither of which is needed to read it
    "AES-128": (
        "c-pO0&1(}u6c-fKIe9Lka|tS_^SQIT5DINRXw{O^*dl1v$<Az=l4j#(Qd;o?MX!R=lPAH07Zvd$6g>1$kSciaCLTop08ieX*(7Z+"
        "9!=OV@BQBUz2CgIFS*%b`3yPBK<>xS&tCw67$&u4kk12jalNe}Do7)nNgbeBS=Sv%ZNMBD9|yXnTp%4u$l?GhB;A&Q1fcT`)q$5G"
        "bBS<qD3$#))fGy$P3=`eGg>v|WU^){u>A^*VPKy{faY{3>86nt<rvC|&B+b~@_|TnsZv|kQ4g3VJrNFYSixr4LLKP+btgU|%#j0B"
        "?bb|YI;Xwar0nRdESl2IRc#uP9Afc?ST5*R-7Hz*4)2&$%N3BTAAEo3;jKsB#*6mR`N!*H*U+n#U+1<?pV<HHb@j&K*_}^Mw>P&="
        "eg9q9ci`CFt4H44e(>zx#M1MVUk@GMxl&YbH}1cCay{A{o7(<Z{_xV(?Nj#^h#>_FklT*ApS~7C1KVoIX~;w2(~#QEHJV1J5LJzA"
        "DVZvODlqQ}5zD}5S~C{;p&uz$3o(zCRB=GKj3whL4kZg>p%o{!FyNX-LP;v6h&|ird6-wB$9zT!jkIJc#v+Uvp(4VyKw&{O4Qesh"
        "p61&30?CQs7+YJ!aV#;xfg4vjn_|_d{%N9XmP)JcRYAohs<d^>1<gP-QK~M`y^D&$z^i7Z40{C5NOz6Bp{=Dl1{nGP?|z{0Jm$d|"
        "?)r!wZHBb=e1ebo2xTKa>WdK{<D))49A{G5XzDbZW3_QpTX|?MN$hs@R%E(pmm@DY<BYL@3E?r!h_x^a1Q+h)9?q!6LmMZUCnzHp"
        "@hn2EEf^X99~5>iORXqfZyP8ETh%c#HCbc*!2ZwVN|iGB1FJMK<^"
    ),
    "AES-256": (
        "c-pO0&1)n@6vvCY?OBEOQX)Als9jaBK4A!Kk{MhyOvvaWNDkFiuaa4k>Cn>?vVtdB5xs~9{{{Cf9t1(bi-@2u?qLN{P`v2X<D$Nv"
        "NwS0E(HR=v=kNXA>(_5>XKV1Bcpi$iUw-}e`$90z>gq<(>lNk8H;<8(o1qPd^?p(AgngVcNdddX`g(zr)CJ0wgn3+1Zq~C&%S2JW"
        "I8Iac8iOv8?JcFkf2MYY8l==krE(k7IBe9X1i|TVIA@NYy`tR3X+3Kqk?IfzHRa3&!PGg)^3`E=1LMMRO)N-sj?TA98B}P>^uKyi"
        "E5thRq8!btcCL0t>TDxSabC830S`~G9mlYQqL)x!!pVMnK*T%$v~4gP6@PsF?q6T|AO3uN^u!n2`Sj%eE&kJ;Z>neR?A_`;S^RkW"
        "-rsj0efFIzUp`$PT>0$M?2QjUy7#l%c<bT2-@SeR_sbtV@^Ss<r<b4l?b7?V-+SouPaf-ab<d#B7?>pn*O{h?F>}F1YLa)Dl3saZ"
        "rI$3h@nMS%D@SdZq|l_I9I~DVs6vRzV6-5jw>*ZF5u^@@S6WtH0<WYLN(F_L)5hwgQE=cGvjb%zr6g01!X=bk2`*ePA^9pOEj+!5"
        "S6B}q#}qhbNN8lTKv>G>%EX{usszg96sK?*NzfFUAgZjbvs^i4h?E4>j;rK&lwcuagjBhhtwD6%>mJOvVAQ5F>FTUK=$~|}R&LdC"
        "c#M-SXq%N+`=je{F({Dd3o~ku25bS)Da`|A*r!2puPc)|+NdOtfK{lhQ_9=SqszvjB9G%)Q-4Zj4=$r}UeheOHlZ5?!5HC#sA9;#"
        "RpcR3Q{FjloHtSNj4shsomDbsp^X8I98gw>Dp>Hj>vRX3Bl;*zmAwH7fm`cnbSh`9jYex?1fF4iX<1Jj%mrt*;1@q;v<A&GyRZpb"
        ">A7d}z-H8nO-NX=No!VYpjK^aIj(KO_z;`<{*K14Bhf2&>zc00;xt^_qNC6=3KRf1Fh&ChK^g~Vl<B1IQ6S0hDb9d45(IfPc_iru"
        "#QOgMLFcGHiOtR9mYMTwGHpZC&Id~$gDBS4`olr-54{t3hy"
    ),
}


@pytest.mark.parametrize("algorithm", AES)
def test_aes_with_an_empty_password_is_read(tmp_path, algorithm):
    (tmp_path / "a.pdf").write_bytes(zlib.decompress(base64.b85decode(AES[algorithm])))
    assert texts_of(tmp_path)["a.pdf"] == "Bone is tough."


def test_a_broken_pdf_stops_nothing(tmp_path):
    whole = write_pdf(tmp_path / "whole.pdf", lines("Bone is tough.")).read_bytes()
    for n, data in enumerate([b"", b"%PDF-1.7", b"\0" * 99, b"<html>login</html>"]):
        (tmp_path / f"cut{n}.pdf").write_bytes(data)
    (tmp_path / "cut9.pdf").write_bytes(
        whole.replace(b"/Pages 2 0 R", b"/Pages 9 0 R").replace(b"/Count 1", b"/Count 0")
    )
    assert texts_of(tmp_path) == {"whole.pdf": "Bone is tough."}
    assert len(reasons(tmp_path)) == 5


ENCODED = [
    ("cp1252.html", "cp1252", '<meta charset="cp1252"><p>“Zähigkeit” – 5 €', "“Zähigkeit” – 5 €"),
    ("gbk.html", "gbk", '<META HTTP-EQUIV=Content-Type content="text/html; charset=gbk">骨是坚韧的', "骨是坚韧的"),
    ("gb2312.html", "gb2312", '<meta charset="gb2312">骨是坚韧的', "骨是坚韧的"),
    ("latin.html", "latin-1", "<meta charset='iso-8859-1'>hübsch", "hübsch"),
    ("xml.xhtml", "latin-1", '<?xml version="1.0" encoding="ISO-8859-1"?><p>hübsch</p>', "hübsch"),
    ("koi.html", "koi8-r", "<meta charset=koi8-r>кость", "кость"),
    ("sjis.html", "shift_jis", "<meta charset=Shift_JIS>絹は強い", "絹は強い"),
    ("jis.html", "iso2022_jp", "<meta charset=iso-2022-jp>絹は強い", "絹は強い"),
    ("paper.tex", "latin-1", "\\usepackage[latin1]{inputenc}\n\\begin{document}hübsch\\end{document}", "hübsch"),
    ("ansi.tex", "cp1252", "\\usepackage[ansinew]{inputenc}\n\\begin{document}5 €\\end{document}", "5 €"),
    ("emacs.txt", "cp1250", "-*- coding: cp1250 -*-\nkość", "kość"),
    ("bom8.txt", "utf-8-sig", "hübsch", "hübsch"),
    ("bom16.txt", "utf-16", "hübsch", "hübsch"),
    ("bom32.txt", "utf-32", "hübsch", "hübsch"),
    ("stale.html", "utf-8", '<meta charset="latin-1">hübsch', "hübsch"),
]


@pytest.mark.parametrize("name, encoding, text, expected", ENCODED)
def test_declared_encodings(tmp_path, name, encoding, text, expected):
    (tmp_path / name).write_bytes(text.encode(encoding))
    found = texts_of(tmp_path)[name]
    assert expected in found and MARK not in found


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.rst"])
def test_one_bad_line_costs_itself(tmp_path, name):
    good = b"Bone is tough.\n\n" * 15
    (tmp_path / name).write_bytes(good + "Zähigkeit\n".encode("latin-1") + b"Silk is strong.")
    text = texts_of(tmp_path)[name]
    assert text.startswith("Bone") and text.endswith("Silk is strong.") and "higkeit" not in text
    assert "1 of 32 lines are not UTF-8" in reasons(tmp_path)[name]


def test_an_undeclared_encoding_is_not_guessed(tmp_path):
    (tmp_path / "z.txt").write_text("Silk is strong.")
    (tmp_path / "a.txt").write_bytes("Zähigkeit\nHärte\n".encode("latin-1"))
    assert "declares no encoding" in reasons(tmp_path)["a.txt"]


BAD = [  # file, bytes, what is said; the file beside it is always read
    ("a.jsonl", b'{"text": "bone"}\n{"text": \n{"text": "silk"}', "1 of 3 lines skipped"),
    ("a.jsonl", b'{"text": "bone"}\n' + b"[" * 200_000 + b'\n{"text": "silk"}', "nested too deeply"),
    ("a.jsonl", b'{"text": "bone"}\n{"text": "Z\xe4h"}\n{"text": "silk"}', "is not UTF-8"),
    ("a.jsonl", b'{"text": "bone"}\n17\n{"text": ""}', "2 of 3 lines skipped"),
    ("a.jsonl", b'{"text": "bone \\ud800"}', "1 lone surrogates"),
    ("a.json", b"[" * 200_000, "nested too deeply"),
    ("a.json", b'{"text": "\\udfff"}', "1 lone surrogates"),
    ("a.json", b"{", "is not JSON"),
    ("a.ipynb", b"[" * 200_000, "nested too deeply"),
    ("a.ipynb", b"{}", "no cells"),
    ("a.docx", b"PK\3\4 no", "no readable Word document"),
    ("a.txt", b"\0\1\2", "binary"),
    ("a.xyz", b"bone", "files of type .xyz are not read"),
]


@pytest.mark.parametrize("name, data, said", BAD)
def test_a_bad_file_costs_itself(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    (tmp_path / "z.txt").write_text("Silk is strong.")
    assert texts_of(tmp_path)["z.txt"] == "Silk is strong."
    assert any(said in reason for reason in reasons(tmp_path).values())
    build_index(tmp_path, tmp_path.parent / f"{tmp_path.name}.index")  # and everything can be written


@pytest.mark.parametrize("name", ["a.md", "a.html"])
def test_deep_markup_is_read(tmp_path, name):
    (tmp_path / name).write_text("Bone. <math>" + "<mrow>" * 20_000 + "x")
    assert texts_of(tmp_path)[name].split() == ["Bone.", "x"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are a thing of Linux")
@pytest.mark.parametrize("name, shown", [(b"caf\xe9.txt", "caf\\xe9.txt"), (b"a\x1b[2J.txt", "a\\x1b[2J.txt")])
def test_a_bad_name_is_shown_and_read(tmp_path, name, shown):
    folder = tmp_path / "docs"
    folder.mkdir()
    with open(os.path.join(os.fsencode(folder), name), "w") as f:
        f.write("Bone is tough.")
    assert texts_of(folder) == {shown: "Bone is tough."} and "UTF-8" in reasons(folder)[shown]
    assert build_index(folder, tmp_path / "index").retrieve("bone")[0].source == shown


def test_links_that_leave_the_folder(tmp_path):
    docs, away = tmp_path / "docs", tmp_path / "away"
    docs.mkdir()
    away.mkdir()
    (docs / "a.txt").write_text("Bone is tough.")
    (away / "secret.txt").write_text("The key is 17.")
    (docs / "link.txt").symlink_to(away / "secret.txt")
    (docs / "linked").symlink_to(away, target_is_directory=True)
    (docs / "up").symlink_to(docs, target_is_directory=True)
    (docs / "inside.txt").symlink_to(docs / "a.txt")
    assert sorted(texts_of(docs)) == ["a.txt", "inside.txt"]
    said = reasons(docs)
    assert sorted(said) == ["link.txt", "linked"] and all("follow_links=True" in r for r in said.values())
    asked = texts_of(docs, follow_links=True)
    assert sorted(asked) == ["a.txt", "inside.txt", "link.txt", "linked/secret.txt"]
    assert not any("key" in n.text for n in build_index(docs).nodes)
    assert any("key" in n.text for n in build_index(docs, follow_links=True).nodes)


def docx(path, body):
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{word}"><w:body>{body}</w:body></w:document>')


FORMATS = [
    (
        "a.tex",
        r"\section{Nacre} $\sigma_{y} = K\,d^{-1/2}$ \textbf{is} K\"uhn's~\cite{k}.",
        [r"$\sigma_{y} = K\,d^{-1/2}$", "is Kühn's"],
    ),
    ("a.tex", "\\begin{document}a % gone\n\\[ \\{x \\| y\\} \\]\\end{document}", ["\\[ \\{x \\| y\\} \\]"]),
    ("a.rst", "Nacre\n=====\n\n*Tough*, see :ref:`x <y>`::\n\n    a_b = *c\n", ["Nacre", "Tough, see x:", "a_b = *c"]),
    (
        "a.ipynb",
        json.dumps({"cells": [{"cell_type": "markdown", "source": ["# Bone\n", "*tough*"]}]}),
        ["Bone", "tough"],
    ),
    ("a.json", '[{"text": "bone"}, {"text": ["silk", "nacre"]}]', ["bone", "silk", "nacre"]),
    ("a.json", '{"title": "Bone", "sections": [{"head": "Tough", "n": 1}]}', ["Bone", "Tough"]),
    ("a.ndjson", '{"text": "bone"}\n{"body": "silk"}', ["bone", "silk"]),
    (
        "a.jsonl",
        '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}',
        ["User: Why?", "Assistant: So."],
    ),
    ("a.jsonl", '{"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]}', ["User: Why?"]),
    ("a.jsonl", '{"conversations": [{"from": "human", "value": "Why?"}]}', ["Human: Why?"]),
    ("a.jsonl", '{"text": ["bone", "silk"]}', ["bone\n\nsilk"]),
    ("a.jsonl", '"bone"', ["bone"]),
]


@pytest.mark.parametrize("name, text, expected", FORMATS)
def test_formats(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text, encoding="utf-8")
    documents, problems = load_documents(tmp_path)
    found = "\n".join(d.text for d in documents)
    assert all(words in found for words in expected) and not problems
    assert "gone" not in found


def test_a_word_document(tmp_path):
    docx(
        tmp_path / "a.docx",
        "<w:p><w:r><w:t>Bone</w:t><w:tab/><w:t>is</w:t></w:r></w:p><w:p><w:r><w:t>tough.</w:t></w:r></w:p>",
    )
    assert texts_of(tmp_path)["a.docx"] == "Bone is\n\ntough."


CONTROL = (
    "<|im_end|> <|endoftext|> <|eot_id|> [INST] [/INST] <<SYS>> <start_of_turn> <end_of_turn> </s> <s> <pad>".split()
)
CONTROL.append("<｜User｜>")


@pytest.mark.parametrize("token", CONTROL)
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.jsonl", "a.tex"])
def test_control_tokens_of_documents_are_broken(tmp_path, token, name):
    text = f"bone {token} silk"
    if name == "a.html" or name == "a.md":
        text = text.replace("<", "&lt;").replace(">", "&gt;")
    (tmp_path / name).write_text(json.dumps({"text": text}) if name == "a.jsonl" else text, encoding="utf-8")
    found = texts_of(tmp_path)[name if name != "a.jsonl" else "a.jsonl:1"]
    assert found == f"bone {token[0]}\\{token[1:]} silk"


def toy(*special):
    "A tokenizer that knows these control tokens, and letters."
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {c: i for i, c in enumerate(dict.fromkeys("?" + "".join(map(chr, range(33, 127))) + "｜▁"))}
    raw = Tokenizer(models.WordLevel(letters, "?"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    tokenizer.add_special_tokens(dict(eos_token=special[0], extra_special_tokens=list(special[1:])))
    return tokenizer


@pytest.mark.parametrize(
    "special",
    [
        ["<|im_end|>", "<|im_start|>", "<|endoftext|>"],
        ["</s>", "<s>", "[INST]", "[/INST]"],
        ["<eos>", "<start_of_turn>", "<end_of_turn>"],
        ["<｜end▁of▁sentence｜>", "<｜User｜>"],
        ["{{END}}", "@@stop@@", "###Human"],  # a form that nobody else has
    ],
)
def test_no_token_of_a_tokenizer_is_left(tmp_path, special):
    tokenizer = toy(*special)
    ids = set(tokenizer.convert_tokens_to_ids(special))
    (tmp_path / "a.txt").write_text(" ".join(f"bone {t} silk{t}{t}" for t in special), encoding="utf-8")
    raw = (tmp_path / "a.txt").read_text(encoding="utf-8")
    assert ids <= set(tokenizer(raw)["input_ids"])
    text = texts_of(tmp_path, tokens=control_tokens(tokenizer))["a.txt"]
    assert not ids & set(tokenizer(text)["input_ids"])
    assert break_control_tokens(text, control_tokens(tokenizer)) == text


QUERIES = [
    ("efficient films", "eﬃcient ﬁlms"),
    ("10^2", "10²"),
    ("µm", "μm"),
    ("H2O", "H₂O"),
    ("software", "soft\u00adware"),
]


@pytest.mark.parametrize("typed, written", QUERIES)
def test_search_finds_what_is_typed(tmp_path, typed, written):
    (tmp_path / "a.txt").write_text(f"zzz {written} zzz", encoding="utf-8")
    (tmp_path / "b.txt").write_text("bone and silk")
    assert search_form(typed) in search_form(written)
    if len(typed) > 4:  # a search by words has no shorter ones
        assert [n.source for n in build_index(tmp_path).retrieve(typed)] == ["a.txt"]


@pytest.mark.parametrize("text", ["10² m⁻¹", "x½", "5 ㎡", "a_b", "±5 °C", "骨 α ∑"])
def test_what_changes_meaning_is_not_changed(text):
    assert plain_characters(text) == text


TOPIC = (
    "bone silk nacre wood keratin chitin collagen protein mineral crack fibre layer load tough slow the a of".split()
)


def essay(seed, n):
    return random.Random(seed).choices(TOPIC, k=n)


def edit(words, share, seed=9):
    rng = random.Random(seed)
    return [f"w{rng.random()}"[:6] if rng.random() < share else w for w in words]


PAPER = essay(1, 900)
LONG = essay(2, 2000) + PAPER + essay(3, 2000)
TOGETHER = {
    "a copy": (PAPER, PAPER),
    "a copy in capitals": (PAPER, [w.upper() for w in PAPER]),
    "an edited copy": (PAPER, edit(PAPER, 0.05)),
    "a heavily edited copy": (PAPER, edit(PAPER, 0.10)),
    "a copy with another beginning": (PAPER, [*essay(4, 200), *PAPER]),
    "a preprint in a long version": (PAPER, LONG),
    "an edited preprint in a long version": (edit(PAPER, 0.05), LONG),
    "an excerpt": (PAPER[200:500], PAPER),
    "a short note": ("Nacre is as tough as bone , and stronger than wood".split(),) * 2,
}
APART = {
    "one topic": (essay(5, 900), essay(6, 900)),
    "a shared paragraph": ([*essay(5, 800), *PAPER[:100]], [*PAPER[:100], *essay(6, 800)]),
    "short notes": ("Nacre is as tough as bone and wood".split(), "Nacre is as tough as silk and chitin".split()),
    "nothing": ([], []),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_near_duplicates_are_one_group(case):
    assert near_duplicates([" ".join(words) for words in TOGETHER[case]]) == [0, 0]


@pytest.mark.parametrize("case", APART)
def test_other_texts_stay_apart(case):
    assert near_duplicates([" ".join(words) for words in APART[case]]) == [0, 1]


def test_groups_are_transitive():
    first, second, third = PAPER, PAPER[450:] + essay(7, 450), essay(7, 450) + essay(8, 450)
    assert near_duplicates([" ".join(w) for w in (first, second, third)]) == [0, 0, 0]
    assert near_duplicates([" ".join(w) for w in (first, third)]) == [0, 1]


def corpus(folder, n, copies):
    "A folder of `n` papers, of which some have a copy under another name."
    folder.mkdir()
    for i in range(n):
        words = essay(100 + i, 1200)
        text = ". ".join(" ".join(words[k : k + 12]).capitalize() for k in range(0, len(words), 12)) + "."
        (folder / f"paper{i}.md").write_text(text)
        if i in copies:
            changed = text.replace("toughness", "strength").replace("A bone", "Each bone")
            (folder / f"paper{i} (1).md").write_text(f"Downloaded twice. {changed}")
    return folder


@pytest.mark.parametrize("n, copies", [(20, range(0, 20, 2)), (3, [0, 1]), (2, [0])])
def test_copies_are_in_one_split(tmp_path, n, copies):
    index = build_index(corpus(tmp_path / "docs", n, copies), tmp_path / "index")
    again = build_index(tmp_path / "docs", tmp_path / "index")
    assert again.reused and again.nodes == index.nodes
    sections = [section for section, _ in sections_of(index.nodes)]
    split = {}
    for node, section in zip(index.nodes, sections):
        split.setdefault(node.source.replace(" (1)", ""), set()).add(section_split(section))
    if n >= 10:
        assert all(len(found) == 1 for found in split.values())
    said = [p for p in index.problems if "repeats much of" in p.reason]
    assert [p.path for p in said] == sorted(f"paper{i} (1).md" for i in copies)
    if n > 2:
        train, held = index.split(0.3, seed=1)
        names = [{s.replace(" (1)", "") for s in part.sources()} for part in (train, held)]
        assert names[0] and names[1] and not names[0] & names[1]


def test_passages_of_few_files_meet_in_one_section(tmp_path):
    "With few files a section is a run of passages; a shifted copy's passages are in the runs that they repeat."
    index = build_index(corpus(tmp_path / "docs", 1, [0]))
    sections = {}
    for node, (section, _) in zip(index.nodes, sections_of(index.nodes)):
        sections.setdefault(node.source, []).append(section)
    assert len(sections) == 2 and set(sections["paper0.md"]) == set(sections["paper0 (1).md"])


def test_a_corpus_of_copies_cannot_be_split(tmp_path):
    with pytest.raises(ValueError, match="do not repeat one another"):
        build_index(corpus(tmp_path / "docs", 1, [0])).split()


def test_thousands_of_documents_take_seconds():
    import time

    texts = [" ".join(essay(1000 + i, 400)) for i in range(3000)]
    start = time.process_time()
    assert near_duplicates([*texts, texts[17]])[-1] == 17
    assert time.process_time() - start < 30


def test_the_textbook_has_no_copies(shared_data):
    documents, _ = load_documents(shared_data / "chemistry")
    assert near_duplicates([d.text for d in documents]) == list(range(len(documents)))
