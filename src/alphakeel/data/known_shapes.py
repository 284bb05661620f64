"""Files that people download: of which a refused one looks like, and what to rename in it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from alphakeel.data.columns import field_of, normalised_name

__all__ = ["looks_like"]

# Columns of well-known downloads in the order date, ticker, open, high, low, close, volume, and
# adjusted close; "" where there is none.
_FIELDS = ("date", "ticker", "open", "high", "low", "close", "volume", "adj_close")
_SHAPES = {
    "Yahoo Finance": "Date,,Open,High,Low,Close,Volume,Adj Close",
    "Stooq": "Date,,Open,High,Low,Close,Volume",
    "Stooq with Polish headers": "Data,,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen",
    "GPW with Polish headers": "Data,Nazwa,Kurs otwarcia,Kurs max,Kurs min,Kurs zamkniecia,Wolumen",
    "German headers": "Datum,,Erster,Hoch,Tief,Schlusskurs,Stuecke",
    "ariva.de with German headers": "Datum,,Eroeffnung,Tageshoch,Tagestief,Schlusskurs,Volumen",
    "French headers": "Date,,Ouverture,Plus haut,Plus bas,Cloture,Volume",
    "investing.com": "Date,,Open,High,Low,Price,Vol.",
    "investing.com in Spanish": "Fecha,,Apertura,Maximo,Minimo,Ultimo,Vol.",
    "investing.com in Portuguese": "Data,,Abertura,Maxima,Minima,Ultimo,Vol.",
    "investing.com in Italian": "Data,,Apertura,Massimo,Minimo,Ultimo,Vol.",
    "investing.com in Turkish": "Tarih,,Acilis,Yuksek,Dusuk,Simdi,Hac.",
    "investing.com in Russian": "Дата,,Откр.,Макс.,Мин.,Цена,Объём",
    "investing.com in Danish": "Dato,,Åben,Høj,Lav,Seneste,Volumen",
    "Nasdaq Nordic with Danish headers": "Dato,,Åbningskurs,Højeste,Laveste,Slutkurs,Omsætning",
    "Nasdaq Nordic": "Date,,Opening price,High price,Low price,Closing price,Total volume",
    "Swedish headers": "Datum,,Öppning,Högst,Lägst,Stängning,Volym",
    "Norwegian headers": "Dato,,Åpning,Høyest,Lavest,Slutt,Volum",
    "Dutch headers": "Datum,,Opening,Hoog,Laag,Slot,Volume",
    "Czech headers": "Datum,Název,Otevírací,Maximální,Minimální,Zavírací,Objem",
    "Hungarian headers": "Dátum,Név,Nyitó,Maximum,Minimum,Záró,Forgalom",
    "Naver Finance": "날짜,,시가,고가,저가,종가,거래량",
    "KRX": "일자,종목코드,시가,고가,저가,종가,거래량",
    "Yahoo Japan": "日付,,始値,高値,安値,終値,出来高,調整後終値",
    "akshare": "日期,股票代码,开盘,最高,最低,收盘,成交量",
    "TWSE": "日期,證券代號,開盤價,最高價,最低價,收盤價,成交股數",
    "tushare": "trade_date,ts_code,open,high,low,close,vol",
    "J-Quants": "Date,Code,Open,High,Low,Close,Volume,AdjustmentClose",
    "CSMAR": "Trddt,Stkcd,Opnprc,Hiprc,Loprc,Clsprc,Dnshrtrd,Adjprcwd",
    "CRSP": "DATE,PERMNO,OPENPRC,ASKHI,BIDLO,PRC,VOL",
    "Compustat": "datadate,tic,prcod,prchd,prcld,prccd,cshtrd",
    "Bloomberg": "date,ticker,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME",
    "Alpha Vantage": "timestamp,,1. open,2. high,3. low,4. close,6. volume,5. adjusted close",
    "NSE of India": "DATE1,SYMBOL,OPEN_PRICE,HIGH_PRICE,LOW_PRICE,CLOSE_PRICE,TTL_TRD_QNTY",
    "BSE of India": "Date,,Open Price,High Price,Low Price,Close Price,No.of Shares",
    "B3": "TradDt,TckrSymb,FrstPric,MaxPric,MinPric,LastPric,FinInstrmQty",
    "Polygon": "window_start,ticker,open,high,low,close,volume",
}
LEAST_ALIKE = 0.75  # of two names' letters, to be the same word otherwise spelled
LEAST_PAIRS, LEAST_SHARE = 3, 0.6  # columns of a shape that a file must have


def looks_like(columns: Sequence[str]) -> str:
    """The nearest known shape of a file with these columns and what to rename; "" if none is near.

    To be put behind a sentence without its full stop.

    Examples
    --------
    >>> looks_like(["Data", "Otwarcie", "Najwyzszy kurs", "Najnizszy", "Zamkniecie", "Obrót"])
    "; it looks like Stooq with Polish headers: rename 'Najwyzszy kurs' to high"
    """
    best, most, shape_of_best = {}, (0.0, 0.0), ""
    for shape, names in _SHAPES.items():
        wanted = {name: f for f, name in zip(_FIELDS, names.split(","), strict=False) if name}
        pairs, alike = _pairs(list(columns[:60]), wanted)
        of_day = sum(f not in ("date", "ticker") for f in pairs.values())
        share = alike / len(wanted)
        if of_day >= LEAST_PAIRS and share >= LEAST_SHARE and (share, alike) > most:
            best, most, shape_of_best = pairs, (share, alike), shape
    renames = [
        f"{column[:24]!r} to {name}" for column, name in best.items() if field_of(column) != name
    ]
    if not renames:
        return ""
    listed = " and ".join(filter(None, (", ".join(renames[:-1]), renames[-1])))
    return f"; it looks like {shape_of_best}: rename {listed}"


def _pairs(columns: Sequence[str], wanted: dict[str, str]) -> tuple[dict[str, str], float]:
    """The field of each column that is a shape's, by its nearest name, and how alike they are."""
    scores = [
        (_alike(normalised_name(column), normalised_name(name)), column, name)
        for column in columns
        for name in wanted
    ]
    pairs: dict[str, str] = {}
    total = 0.0
    for score, column, name in sorted(scores, key=lambda s: -s[0]):
        if score < LEAST_ALIKE:
            break
        if column not in pairs and wanted[name] not in pairs.values():
            pairs[column] = wanted[name]
            total += score
    return pairs, total


def _alike(name: str, known: str) -> float:
    """How alike two names are: 1 for the same, nearly so where one is the start of the other."""
    if name == known:
        return 1.0
    if min(len(name), len(known)) >= 4 and (name.startswith(known) or known.startswith(name)):
        return 0.9
    return SequenceMatcher(None, name, known).ratio()
